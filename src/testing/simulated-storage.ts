/**
 * A disk in memory that crashes, tears, loses and fails on demand, the same way each time for the same seed.
 *
 *   working --crash point met--> crashed --reboot--> working        working --crash--> working
 *
 * X1. Files follow simulated-inode.ts (I1-I3), names simulated-directory.ts (D1-D3), thus S1-S4 of storage.ts and no
 *     more than those: what they leave open is lost as often as it is kept.
 * X2. The operation that meets a crash point has happened in memory when it throws (a sync has not): whether it is on
 *     the medium is for the dice of the reboot to say.
 * X3. A write that fails may have written any part. A file that failed a write or a sync is poisoned, as on the real disk.
 */
import { invariant, StoreError } from "../errors.ts";
import type { OpenFileOptions, Storage, StorageFile } from "../storage/storage.ts";
import { directoryOf } from "../storage/whole-file.ts";
import { Random } from "./random.ts";
import { SimulatedNames } from "./simulated-directory.ts";
import {
  FAILURE_CODES,
  type Failure,
  type FaultPoint,
  FaultPlan,
  type Operation,
  type OperationKind,
  SimulatedCrash,
} from "./simulated-faults.ts";
import { SimulatedInode } from "./simulated-inode.ts";

export interface SimulatedStorageOptions {
  readonly seed?: number;
  readonly description?: string;
}

export class SimulatedStorage implements Storage {
  readonly description: string;
  readonly directory = null;
  /** Every operation since the start or `clearTrace`, in order. */
  readonly trace: Operation[] = [];
  private readonly random: Random;
  private readonly faults = new FaultPlan();
  private names = new SimulatedNames(new Map(), new Set([""]));
  /** Counts crashes: handles opened before the last one are dead. */
  private epoch = 0;
  private crashed = false;

  constructor(options: SimulatedStorageOptions = {}) {
    this.description = options.description ?? "simulated disk";
    this.random = new Random(options.seed ?? 1);
  }

  /** The operation at `point` fails with `systemCode`. */
  failAt(failure: Failure): void {
    this.faults.addFailure(failure);
  }

  /** The operation at `point` throws SimulatedCrash, as does everything after it until `reboot`. */
  crashAt(point: FaultPoint): void {
    this.faults.addCrash(point);
  }

  clearFaults(): void {
    this.faults.clear();
  }

  clearTrace(): void {
    this.trace.length = 0;
  }

  countOf(...kinds: OperationKind[]): number {
    return this.trace.filter(({ kind }) => kinds.includes(kind)).length;
  }

  get isCrashed(): boolean {
    return this.crashed;
  }

  /** Loses power now and comes back: unsynced changes are lost by the dice of `random`, handles are dead, faults gone. */
  crash(random: Random): void {
    this.names = this.namesAfterCrash(random);
    this.epoch++;
    this.crashed = false;
    this.faults.clear();
  }

  /** Like `crash`, with the storage's own dice. */
  reboot(): void {
    this.crash(this.random);
  }

  /** Another disk, as this one would be after a crash now; this one goes on. For trying many outcomes of one moment. */
  copyAfterCrash(random: Random): SimulatedStorage {
    const copy = new SimulatedStorage({ description: this.description, seed: random.nextUint32() });
    copy.names = this.namesAfterCrash(random);
    return copy;
  }

  /** Flips a bit of a file, on the medium too. */
  flipBit(path: string, bit: number): void {
    this.inode(path, "Cannot flip a bit of").flipBit(bit);
  }

  /** Cuts or extends (with zeros) a file, on the medium too. */
  truncateFile(path: string, size: number): void {
    const inode = this.inode(path, "Cannot truncate");
    inode.truncate(size);
    inode.settle();
  }

  /** Unsynced writes of any file are pending. */
  get hasUnsyncedWrites(): boolean {
    return [...this.names.inodes()].some((inode) => inode.hasUnsyncedChanges);
  }

  openFileSync(path: string, options: OpenFileOptions): StorageFile {
    this.perform(options.mode === "create" ? "create" : "open", path, () => {
      if (options.mode === "create") {
        if (this.exists(path))
          throw failed("FILE_EXISTS", "Cannot create", path, "the name is already taken");
        this.checkParent(path, "Cannot create");
        this.names.set(path, new SimulatedInode());
      } else {
        this.inode(path, "Cannot open");
      }
    });
    const epoch = this.epoch;
    return new SimulatedFile(this.inode(path, "Cannot open"), {
      path,
      options,
      isAlive: () => this.epoch === epoch,
      perform: (kind, action, interrupted) => this.perform(kind, path, action, interrupted),
    });
  }

  existsSync(path: string): boolean {
    return this.perform("exists", path, () => this.exists(path));
  }

  listSync(path: string): string[] {
    return this.perform("list", path, () => this.names.list(path));
  }

  makeDirectorySync(path: string): void {
    this.perform("makeDirectory", path, () => {
      if (this.names.get(path) !== undefined) {
        throw failed(
          "FILE_EXISTS",
          "Cannot create the directory",
          path,
          "the name is already taken",
        );
      }
      this.names.makeDirectory(path);
    });
  }

  renameSync(from: string, to: string): void {
    this.perform("rename", from, () => {
      const inode = this.inode(from, `Cannot rename to "${to}"`);
      this.checkParent(to, `Cannot rename to "${to}"`);
      if (from !== to) this.names.rename(from, to, inode);
    });
  }

  deleteSync(path: string): void {
    this.perform("delete", path, () => {
      this.inode(path, "Cannot delete");
      this.names.delete(path);
    });
  }

  syncDirectorySync(path: string): void {
    this.perform("syncDirectory", path, () => {
      if (!this.names.hasDirectory(path)) {
        throw failed(
          "FILE_NOT_FOUND",
          "Cannot sync the directory",
          path,
          "no such file or directory",
        );
      }
      this.names.sync(path);
    });
  }

  /**
   * Counts and traces an operation, then does it, unless a fault is due. `interrupted` is what an operation has done
   * when it meets a fault; without it, nothing for a failure and everything for a crash (X2).
   */
  private perform<T>(
    kind: OperationKind,
    path: string,
    action: () => T,
    interrupted?: (fault: Failure | "crash") => void,
  ): T {
    if (this.crashed) throw new SimulatedCrash(`The machine is down: ${kind} of "${path}"`);
    this.trace.push({ kind, path });
    const fault = this.faults.next({ kind, path });
    if (fault === null) return action();
    if (fault === "crash") {
      if (interrupted !== undefined) interrupted(fault);
      else if (kind !== "syncDirectory") action();
      this.crashed = true;
      throw new SimulatedCrash(
        `Power failure: ${kind} of "${path}", operation ${this.trace.length}`,
      );
    }
    interrupted?.(fault);
    throw failed(
      FAILURE_CODES[fault.systemCode],
      `Cannot ${kind}`,
      path,
      `simulated ${fault.systemCode}`,
    );
  }

  private namesAfterCrash(random: Random): SimulatedNames {
    const left = new Map<SimulatedInode, SimulatedInode>();
    return this.names.afterCrash(random, (inode) => {
      const known = left.get(inode) ?? inode.afterCrash(random);
      left.set(inode, known);
      return known;
    });
  }

  private exists(path: string): boolean {
    return this.names.get(path) !== undefined || this.names.hasDirectory(path);
  }

  private inode(path: string, action: string): SimulatedInode {
    const inode = this.names.get(path);
    if (inode === undefined)
      throw failed("FILE_NOT_FOUND", action, path, "no such file or directory");
    return inode;
  }

  private checkParent(path: string, action: string): void {
    if (this.names.hasDirectory(directoryOf(path))) return;
    throw failed("FILE_NOT_FOUND", action, path, "no such file or directory");
  }
}

function failed(code: StoreError["code"], action: string, path: string, what: string): StoreError {
  return new StoreError(code, `${action} "${path}": ${what}`, { details: { path } });
}

interface FileContext {
  readonly path: string;
  readonly options: OpenFileOptions;
  readonly isAlive: () => boolean;
  perform<T>(
    kind: OperationKind,
    action: () => T,
    interrupted?: (fault: Failure | "crash") => void,
  ): T;
}

class SimulatedFile implements StorageFile {
  readonly path: string;
  private readonly inode: SimulatedInode;
  private readonly context: FileContext;
  private closed = false;
  private poisoned = false;

  constructor(inode: SimulatedInode, context: FileContext) {
    this.inode = inode;
    this.context = context;
    this.path = context.path;
  }

  readSync(offset: number, target: Uint8Array): number {
    this.checkOpen();
    return this.context.perform("read", () => this.inode.read(offset, target));
  }

  async read(offset: number, target: Uint8Array): Promise<number> {
    this.checkOpen();
    await Promise.resolve();
    return this.context.perform("read", () => this.inode.read(offset, target));
  }

  writeSync(offset: number, source: Uint8Array): void {
    this.checkWritable("write");
    this.performWrite(offset, source);
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    this.checkWritable("write");
    await Promise.resolve();
    this.performWrite(offset, source);
  }

  syncSync(): void {
    this.checkWritable("sync");
    this.performSync(this.inode.writeMark);
  }

  async sync(): Promise<void> {
    this.checkWritable("sync");
    const mark = this.inode.writeMark;
    await Promise.resolve();
    this.performSync(mark);
  }

  sizeSync(): number {
    this.checkOpen();
    return this.context.perform("size", () => this.inode.size);
  }

  changeMarkSync(): string {
    this.checkOpen();
    return this.context.perform("size", () => `${this.inode.size} ${this.inode.writeMark}`);
  }

  truncateSync(size: number): void {
    this.checkWritable("truncate");
    this.guard(() => this.context.perform("truncate", () => this.inode.truncate(size)));
  }

  closeSync(): void {
    this.closed = true;
  }

  private performWrite(offset: number, source: Uint8Array): void {
    const durable = this.context.options.durableWrites === true;
    const half = source.subarray(0, source.byteLength >> 1);
    this.guard(() =>
      this.context.perform(
        "write",
        () => this.inode.write(offset, source, { durable }),
        (fault) => this.inode.write(offset, fault === "crash" ? source : half, { durable: false }),
      ),
    );
  }

  private performSync(mark: number): void {
    this.guard(() =>
      this.context.perform(
        "sync",
        () => this.inode.syncUpTo(mark),
        (fault) => {
          if (fault !== "crash" && fault.dropUnsynced === true) this.inode.forgetUnsynced();
        },
      ),
    );
  }

  private guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.poisoned = true;
      throw error;
    }
  }

  private checkOpen(): void {
    const open = !this.closed && this.context.isAlive();
    invariant(open, `An open file: "${this.path}" is closed`);
  }

  private checkWritable(action: string): void {
    this.checkOpen();
    if (this.poisoned) {
      throw failed(
        "IO",
        `Cannot ${action}`,
        this.path,
        "an earlier write or sync failed, open the store again",
      );
    }
    if (this.context.options.mode === "read" && action !== "sync") {
      throw failed("IO", `Cannot ${action}`, this.path, "the file is open for reading only");
    }
  }
}
