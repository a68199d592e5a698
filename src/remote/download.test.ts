/** LogTail takes a log apart as it grows, LogAssembly puts it together elsewhere: the same records must come out. */
import { describe, expect, test } from "vitest";
import { CurrentCipher } from "../encryption/current-cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { Log } from "../log/log.ts";
import { type LogPosition, LogTail } from "../log/log-tail.ts";
import { listSegments } from "../log/segment-files.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { LogAssembly } from "./download.ts";
import type { LogSlice } from "./log-slice.ts";
import { readSegmentHeader } from "../log/log-recovery.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const STORE_ID = new Uint8Array(16).fill(5);
const CIPHER = new CurrentCipher(KeyRing.create(parseMasterKey("ab".repeat(32), "key")));

class Scenario {
  private readonly random: Random;
  private readonly cipher: CurrentCipher | null;
  private disk: SimulatedStorage;
  private log: Log;
  /** Payload of LSN n at n - 1. */
  private records: Uint8Array[] = [];
  private checkpointLsn = 0;
  private position: LogPosition = { segment: 1, offset: 0 };
  private slices: LogSlice[] = [];
  /** As of the slices: what they begin after. */
  private slicesAfterLsn = 0;
  private takenLsn = 0;

  constructor(seed: number, cipher: CurrentCipher | null) {
    this.random = new Random(seed);
    this.cipher = cipher;
    this.disk = new SimulatedStorage({ seed });
    this.log = this.open(this.disk, 0, []);
  }

  private open(storage: SimulatedStorage, afterLsn: number, found: Uint8Array[]): Log {
    return Log.open({
      storage,
      storeId: STORE_ID,
      cipher: this.cipher,
      afterLsn,
      segmentSize: 12_288,
      random: (size) => this.random.bytes(size),
      onRecord: (lsn, _kind, payload) => {
        found[lsn - 1] = payload.slice();
      },
    });
  }

  step(): void {
    const choice = this.random.integer(1, 100);
    if (choice <= 45) this.append();
    else if (choice <= 65) this.log.flushSync(this.random.pick(["full", "normal"]));
    else if (choice <= 80) this.take();
    else if (choice <= 85) this.log.rotate();
    else if (choice <= 90) this.trim();
    else if (choice <= 93) this.restart();
    else if (choice <= 97) this.crash();
    else this.verify();
  }

  private append(): void {
    const payload = this.random.bytes(this.random.pick([0, 10, 300, 3000, 20_000]));
    this.records.push(payload);
    expect(this.log.append(1, payload)).toBe(this.records.length);
  }

  private trim(): void {
    this.checkpointLsn = this.random.integer(this.checkpointLsn, this.log.durableLsn);
    this.log.trim(this.checkpointLsn);
  }

  /** A close after a checkpoint of everything, or without one. */
  private restart(): void {
    this.log.flushSync("full");
    if (this.random.chance(0.5)) {
      this.checkpointLsn = this.log.lastLsn;
      this.log.restart(this.checkpointLsn);
    }
    this.log.closeSync();
    this.log = this.open(this.disk, this.checkpointLsn, []);
  }

  private crash(): void {
    const { durableLsn } = this.log;
    this.disk = this.disk.copyAfterCrash(this.random);
    const found: Uint8Array[] = [];
    this.log = this.open(this.disk, this.checkpointLsn, found);
    expect(this.log.lastLsn).toBeGreaterThanOrEqual(durableLsn);
    this.records.length = this.log.lastLsn;
  }

  /** As the uploader does. */
  private take(): void {
    const options = { storage: this.disk, storeId: STORE_ID, cipher: this.cipher };
    const tail = new LogTail(options);
    const bytesMax = this.random.pick([1, 500, 5000, 100_000]);
    const found = tail.pieces(this.position, this.log.durableLsn, bytesMax);
    if (found.isGone) {
      this.slices = [];
      this.slicesAfterLsn = this.checkpointLsn;
      this.position = { segment: this.firstNeeded(), offset: 0 };
      return;
    }
    expect(found.lastLsn).toBeLessThanOrEqual(this.log.durableLsn);
    if (found.pieces.length > 0) this.slices.push(this.slice(found));
    this.position = found.next;
    this.takenLsn = Math.max(this.takenLsn, found.lastLsn);
  }

  private firstNeeded(): number {
    const needed = listSegments(this.disk).findLast(
      (name) => readSegmentHeader(this.disk, name, STORE_ID).firstLsn <= this.slicesAfterLsn + 1,
    );
    return needed!.number;
  }

  private slice({
    pieces,
    firstLsn,
    lastLsn,
  }: Pick<LogSlice, "pieces" | "firstLsn" | "lastLsn">): LogSlice {
    return {
      sequence: this.slices.length + 1,
      storeId: STORE_ID,
      writer: { epoch: 1, id: new Uint8Array(16), name: "test" },
      isFence: false,
      firstLsn,
      lastLsn,
      atMs: 0,
      pieces,
    };
  }

  verify(): void {
    if (this.slices.length === 0) return;
    const copy = new SimulatedStorage({ seed: 1 });
    const assembly = new LogAssembly(copy);
    for (const slice of this.slices) assembly.add(slice);
    assembly.finish();
    const lastLsn = this.slices.reduce((last, slice) => Math.max(last, slice.lastLsn), 0);
    const found: Uint8Array[] = [];
    if (lastLsn < this.slicesAfterLsn) return; // The checkpoint is further: the next slices go on to it.
    const log = this.open(copy, this.slicesAfterLsn, found);
    expect(log.lastLsn).toBe(Math.max(lastLsn, this.slicesAfterLsn));
    for (let lsn = this.slicesAfterLsn + 1; lsn <= lastLsn; lsn++)
      expect(Buffer.compare(found[lsn - 1]!, this.records[lsn - 1]!), `record ${lsn}`).toBe(0);
    log.closeSync();
    this.verifyRecords(copy, lastLsn);
  }

  /** A follower reads the same from the segments while they grow. */
  private verifyRecords(copy: SimulatedStorage, lastLsn: number): void {
    const tail = new LogTail({ storage: copy, storeId: STORE_ID, cipher: this.cipher });
    const first = listSegments(copy)[0]!.number;
    let last = 0;
    for (const { lsn, payload } of tail.records({ segment: first, offset: 0 })) {
      if (last !== 0) expect(lsn).toBe(last + 1);
      last = lsn;
      expect(Buffer.compare(payload, this.records[lsn - 1]!), `record ${lsn}`).toBe(0);
    }
    expect(last).toBe(lastLsn);
  }

  end(): number {
    this.log.flushSync("full");
    for (let last = -1; last !== this.takenLsn || this.slices.length === 0;) {
      if (this.log.lastLsn === 0) break;
      last = this.takenLsn;
      const before = this.position;
      this.take();
      if (before.segment !== this.position.segment || before.offset !== this.position.offset)
        last = -1;
      else break;
    }
    this.verify();
    return this.slices.length;
  }
}

describe("a log taken apart and put together is the same", () => {
  for (const [name, cipher] of [
    ["plain", null],
    ["encrypted", CIPHER],
  ] as const)
    test(name, () => {
      let slices = 0;
      for (let seed = 1; seed <= (isLong ? 2000 : 20); seed++) {
        const scenario = new Scenario(seed, cipher);
        try {
          for (let step = 0; step < 120; step++) scenario.step();
          slices += scenario.end();
        } catch (error) {
          throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
        }
      }
      expect(slices).toBeGreaterThan(60);
    });
});
