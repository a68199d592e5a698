/** From what the command line says of a server, or the socket in a store's directory, to the store behind it. */
import { StoreError } from "../../errors.ts";
import { SOCKET_NAME } from "../../server/socket-name.ts";
import { socketPath } from "../../storage/socket-file.ts";
import { UsageError } from "../errors.ts";
import { readUserFile } from "../user-files.ts";
import { HttpClient } from "./http-client.ts";
import { ServedCommandStore } from "./served-store.ts";

export interface ServerOptions {
  readonly token: string | null;
  readonly tokenFile: string | null;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Asks nothing yet, but for whether a server is below the path of a URL that has one. */
export async function openServedStore(
  text: string,
  options: ServerOptions,
): Promise<ServedCommandStore> {
  const url = parseUrl(text);
  const token = tokenOf(options);
  const client = new HttpClient({ name: text, url, socketPath: null, token });
  if (url.pathname !== "/")
    try {
      await requireServer(client);
    } catch (error) {
      client.close();
      throw error;
    }
  return new ServedCommandStore(client);
}

/** A path is taken for the URL of a branch, which has answers of its own: it is not for commands. */
async function requireServer(client: HttpClient): Promise<void> {
  const answer = await client.json({ method: "GET", path: "/api/v1/server" });
  if (typeof answer === "object" && answer !== null && "limits" in answer) return;
  throw new UsageError(
    `Cannot use --url "${client.name}": there is no admin API below that path; leave the path away, databases and branches are named in the command`,
  );
}

/** How long a server that holds a store of this machine may take to say that it is there. */
const PROBE_MS = 10_000;

/** Null when no server answers on the socket of the store. */
export async function openSocketStore(directory: string): Promise<ServedCommandStore | null> {
  const path = socketPath(directory, SOCKET_NAME);
  if (path === null) return null;
  const place = { name: directory, url: null, socketPath: path, token: null };
  const client = new HttpClient(place);
  try {
    const signal = AbortSignal.timeout(PROBE_MS);
    await client.json({ method: "GET", path: "/api/v1/server", signal });
  } catch (error) {
    client.close();
    if (error instanceof StoreError && error.code === "SERVER_UNREACHABLE") return null;
    throw error;
  }
  return new ServedCommandStore(client);
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:"))
    throw new UsageError(
      "Cannot use --url: it is not the address of a server, such as http://127.0.0.1:8080 or https://bough.example.com",
    );
  // It is shown in messages.
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw new UsageError(
      "Cannot use --url: it has more than a scheme, a host, a port and a path; a token is given with --token",
    );
  return url;
}

function tokenOf({ token, tokenFile, env }: ServerOptions): string | null {
  if (token !== null && tokenFile !== null)
    throw new UsageError("Cannot use --token with --token-file: one of them is enough");
  const given =
    token ??
    (tokenFile === null
      ? env["BOUGH_TOKEN"]
      : Buffer.from(readUserFile(tokenFile)).toString("latin1"));
  const text = (given ?? "").trim();
  if (text === "" && (token !== null || tokenFile !== null))
    throw new UsageError("Cannot use the token: it is empty");
  // Else it would be no header, and the error would show it.
  if (!/^[\x21-\x7e]*$/.test(text))
    throw new UsageError("Cannot use the token: it has characters that no token has");
  return text === "" ? null : text;
}
