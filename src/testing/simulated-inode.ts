/**
 * One file of the simulated disk: what a reader sees now, and what a power failure could leave of it.
 *
 * I1. A sector (512 bytes) is written whole or not at all; after a crash it holds its durable bytes or its bytes as of
 *     one of the unsynced writes that touched it, each sector for itself: writes are lost, torn and reordered.
 * I2. The size is metadata of its own: it may be kept without the data (zeros are read there) and the other way round.
 * I3. `sync` makes everything durable that was written before it began.
 */
import type { Random } from "./random.ts";

export const SECTOR_SIZE = 512;

interface SectorVersion {
  readonly write: number;
  readonly bytes: Uint8Array;
}

interface SizeVersion {
  readonly write: number;
  readonly size: number;
}

/** Bytes that grow at the end, zeros where nothing was written. */
class Contents {
  private buffer = new Uint8Array(SECTOR_SIZE);
  size = 0;

  static of(bytes: Uint8Array): Contents {
    const contents = new Contents();
    contents.write(0, bytes);
    return contents;
  }

  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.size);
  }

  /** A copy of the sectors from `first` to before `end`, zeros after the end of the file. */
  sectors(first: number, end: number): Uint8Array {
    const copy = new Uint8Array((end - first) * SECTOR_SIZE);
    copy.set(this.bytes().subarray(first * SECTOR_SIZE, end * SECTOR_SIZE));
    return copy;
  }

  write(offset: number, source: Uint8Array): void {
    const end = offset + source.byteLength;
    this.reserve(end);
    this.buffer.set(source, offset);
    this.size = Math.max(this.size, end);
  }

  resize(size: number): void {
    this.reserve(size);
    if (size < this.size) this.buffer.fill(0, size, this.size);
    this.size = size;
  }

  private reserve(size: number): void {
    if (size <= this.buffer.byteLength) return;
    const grown = new Uint8Array(Math.max(size, this.buffer.byteLength * 2));
    grown.set(this.bytes());
    this.buffer = grown;
  }
}

export class SimulatedInode {
  private current = new Contents();
  private durable = new Contents();
  private sectorVersions = new Map<number, SectorVersion[]>();
  private sizeVersions: SizeVersion[] = [];
  private lastWrite = 0;

  get size(): number {
    return this.current.size;
  }

  /** Unsynced writes and truncations are still pending. */
  get hasUnsyncedChanges(): boolean {
    return this.sectorVersions.size > 0 || this.sizeVersions.length > 0;
  }

  read(offset: number, target: Uint8Array): number {
    const source = this.current.bytes().subarray(offset, offset + target.byteLength);
    target.set(source);
    return source.byteLength;
  }

  /** `durable`: O_DSYNC, rule S3 of storage.ts. */
  write(offset: number, source: Uint8Array, options: { readonly durable: boolean }): void {
    if (source.byteLength === 0) return;
    const end = offset + source.byteLength;
    const inPlace = end <= this.durable.size;
    const from = Math.min(offset, this.current.size);
    const grows = end > this.current.size;
    this.current.write(offset, source);
    this.record(from, end, grows ? end : null);
    if (options.durable && inPlace) this.makeRangeDurable(offset, end);
  }

  truncate(size: number): void {
    const before = this.current.size;
    this.current.resize(size);
    this.record(Math.min(size, before), Math.max(size, before), size);
  }

  /** Marks how far the writes have come; see `syncUpTo`. */
  get writeMark(): number {
    return this.lastWrite;
  }

  /** Makes durable what was written up to `mark` (I3). */
  syncUpTo(mark: number): void {
    for (const { write, size } of this.sizeVersions) {
      if (write <= mark) this.durable.resize(size);
    }
    this.sizeVersions = this.sizeVersions.filter(({ write }) => write > mark);
    for (const [sector, versions] of this.sectorVersions) {
      const synced = versions.findLast(({ write }) => write <= mark);
      if (synced === undefined) continue;
      writeSector(this.durable, sector, synced.bytes);
      const rest = versions.filter(({ write }) => write > mark);
      if (rest.length === 0) this.sectorVersions.delete(sector);
      else this.sectorVersions.set(sector, rest);
    }
  }

  /** What Linux does after a failed fsync: pages count as clean, so that they are seen now and never written. */
  forgetUnsynced(): void {
    this.sectorVersions.clear();
    this.sizeVersions = [];
  }

  /** Flips a bit on the medium and in what is read. */
  flipBit(bit: number): void {
    const offset = bit >> 3;
    if (offset >= this.current.size) {
      throw new RangeError(
        `Bit ${bit} of a file of ${this.current.size} bytes: it is past the end`,
      );
    }
    for (const contents of [this.current, this.durable]) {
      if (offset < contents.size) contents.bytes()[offset]! ^= 1 << (bit & 7);
    }
  }

  /** Everything, as it is read now, becomes the durable state. */
  settle(): void {
    this.syncUpTo(this.lastWrite);
    this.durable = Contents.of(this.current.bytes());
  }

  /** The file after a power failure, a new inode; this one stays as it is. */
  afterCrash(random: Random): SimulatedInode {
    const left = Contents.of(this.durable.bytes());
    const fates = new FateOfWrites(random);
    for (const { write, size } of this.sizeVersions) {
      if (fates.keepsSize(write)) left.resize(size);
    }
    for (const [sector, versions] of this.sectorVersions) {
      const kept = versions.findLast(({ write }) => fates.keepsSector(write));
      if (kept !== undefined) writeSector(left, sector, kept.bytes);
    }
    const inode = new SimulatedInode();
    inode.current = left;
    inode.durable = Contents.of(left.bytes());
    return inode;
  }

  /** Saves the bytes of the sectors that [from, end) touches, as they are now. */
  private record(from: number, end: number, size: number | null): void {
    const write = ++this.lastWrite;
    const first = Math.floor(from / SECTOR_SIZE);
    const last = Math.ceil(end / SECTOR_SIZE);
    const copy = this.current.sectors(first, last);
    for (let sector = first; sector < last; sector++) {
      const start = (sector - first) * SECTOR_SIZE;
      const version = { write, bytes: copy.subarray(start, start + SECTOR_SIZE) };
      const versions = this.sectorVersions.get(sector);
      if (versions === undefined) this.sectorVersions.set(sector, [version]);
      else versions.push(version);
    }
    if (size !== null) this.sizeVersions.push({ write, size });
  }

  private makeRangeDurable(from: number, end: number): void {
    const first = Math.floor(from / SECTOR_SIZE);
    const last = Math.ceil(end / SECTOR_SIZE);
    for (let sector = first; sector < last; sector++) {
      const bytes = this.current.sectors(sector, sector + 1);
      writeSector(this.durable, sector, bytes);
      const latest = this.sectorVersions.get(sector)?.at(-1);
      // What lies past the durable size still waits for the sync that makes that size durable.
      const waits = latest !== undefined && (sector + 1) * SECTOR_SIZE > this.durable.size;
      if (waits) this.sectorVersions.set(sector, [{ write: latest.write, bytes }]);
      else this.sectorVersions.delete(sector);
    }
  }
}

/** Writes a sector as far as the file goes: bytes past the size do not exist (I2). */
function writeSector(contents: Contents, sector: number, bytes: Uint8Array): void {
  const offset = sector * SECTOR_SIZE;
  const length = Math.min(SECTOR_SIZE, contents.size - offset);
  if (length > 0) contents.write(offset, bytes.subarray(0, length));
}

/** Decides once per write whether it is kept, lost or torn; how often each happens differs from crash to crash. */
class FateOfWrites {
  private readonly random: Random;
  private readonly keptShare: number;
  private readonly tornShare: number;
  private readonly fates = new Map<number, "kept" | "lost" | "torn">();

  constructor(random: Random) {
    this.random = random;
    this.keptShare = random.pick([0, 0.1, 0.5, 0.9, 1]);
    this.tornShare = random.pick([0, 0.3, 1]);
  }

  keepsSector(write: number): boolean {
    const fate = this.fateOf(write);
    return fate === "torn" ? this.random.chance(0.5) : fate === "kept";
  }

  keepsSize(write: number): boolean {
    const fate = this.fateOf(write);
    return fate === "torn" ? this.random.chance(0.7) : fate === "kept";
  }

  private fateOf(write: number): "kept" | "lost" | "torn" {
    let fate = this.fates.get(write);
    if (fate === undefined) {
      fate = this.random.chance(this.keptShare) ? "kept" : "lost";
      if (this.keptShare > 0 && this.keptShare < 1 && this.random.chance(this.tornShare))
        fate = "torn";
      this.fates.set(write, fate);
    }
    return fate;
  }
}
