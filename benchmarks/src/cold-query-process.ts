/** Follows a store in object storage with an empty cache, asks for two rows, and prints what that took. */
import type { RemoteOptions } from "../../src/store/remote-options.ts";
import { openStore } from "../../src/store/store.ts";

export interface ColdTimes {
  readonly openMs: number;
  readonly openRequests: number;
  readonly queryMs: number;
  readonly queryRequests: number;
  readonly queryBytes: number;
  readonly nextMs: number;
  readonly nextRequests: number;
}

interface Given {
  readonly place: RemoteOptions;
  readonly directory: string;
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion
const { place, directory } = JSON.parse(process.argv[2]!) as Given;

const start = performance.now();
const store = openStore(place.url, { remote: place, directory, pollIntervalMs: 1e9 });
const opened = performance.now();
const { followerStatus } = store;
const openRequests = followerStatus!.requests;
const connection = store.connect("large");
connection.prepare("SELECT title FROM note WHERE id = ?").get(123_456);
const asked = performance.now();
const after = store.followerStatus!;
connection.prepare("SELECT title FROM note WHERE id = ?").get(345_678);
const askedAgain = performance.now();
const times: ColdTimes = {
  openMs: opened - start,
  openRequests,
  queryMs: asked - opened,
  queryRequests: after.requests - openRequests,
  queryBytes: after.fetchedBytes,
  nextMs: askedAgain - asked,
  nextRequests: store.followerStatus!.requests - after.requests,
};
process.stdout.write(JSON.stringify(times));
store.close();
