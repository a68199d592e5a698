import { describe, expect, test } from "vitest";
import { isLoopbackHost, requireListenAllowed } from "./listen-address.ts";

const OPEN = { isAuthenticated: false, isOpenWanted: false };

const LOOPBACK = [
  "127.0.0.1",
  "127.0.0.2",
  "127.255.255.255",
  "::1",
  "[::1]",
  "0:0:0:0:0:0:0:1",
  "::ffff:127.0.0.1",
  "::ffff:7f00:1",
  "localhost",
  "LocalHost",
];
const OTHERS = [
  "",
  "0.0.0.0",
  "::",
  "[::]",
  "::ffff:0.0.0.0",
  "126.255.255.255",
  "128.0.0.0",
  "10.0.0.1",
  "192.168.1.5",
  "::2",
  "fe80::1",
  "fe80::1%lo",
  "::1%eth0",
  "::ffff:10.0.0.1",
  "::127.0.0.1",
  "64:ff9b::7f00:1",
  "127.1",
  "0x7f.0.0.1",
  "0177.0.0.1",
  "2130706433",
  "127.0.0.1.example.com",
  "localhost.example.com",
  "example.com",
  "localhost.",
  " 127.0.0.1",
];

describe("where a server without authentication listens", () => {
  test.each(LOOPBACK)("%j is served", (host) => {
    expect(isLoopbackHost(host)).toBe(true);
    requireListenAllowed({ kind: "host", host }, OPEN);
  });

  test.each([...OTHERS, null])(
    "%j is refused, unless there is authentication or it is wanted",
    (host) => {
      const address = { kind: "host", host } as const;
      expect(() => requireListenAllowed(address, OPEN)).toThrow(
        expect.objectContaining({ code: "LISTEN_UNPROTECTED" }),
      );
      requireListenAllowed(address, { ...OPEN, isAuthenticated: true });
      requireListenAllowed(address, { ...OPEN, isOpenWanted: true });
    },
  );

  test("a Unix socket is served", () => {
    requireListenAllowed({ kind: "socket", path: "/run/bough/server.sock" }, OPEN);
  });
});
