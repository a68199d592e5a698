/**
 * A directory of a storage as a storage of its own: what a partition of a store is to its engine.
 *
 * D1. Nothing above the directory can be reached: all paths are below it, and "" is the directory itself.
 * D2. Files say their whole path in messages, so that a partition's damage is told from that of another.
 */
import { join } from "node:path";
import { invariant } from "../errors.ts";
import type { OpenFileOptions, Storage, StorageFile } from "./storage.ts";

export class SubdirectoryStorage implements Storage {
  readonly description: string;
  readonly directory: string | null;
  readonly #parent: Storage;
  readonly #path: string;

  /** The directory need not exist yet. */
  constructor(parent: Storage, path: string) {
    invariant(path !== "" && !path.split("/").includes(".."), `"${path}" is below the storage`);
    this.#parent = parent;
    this.#path = path;
    this.description = `${parent.description}/${path}`;
    this.directory = parent.directory === null ? null : join(parent.directory, path);
  }

  openFileSync(path: string, options: OpenFileOptions): StorageFile {
    return this.#parent.openFileSync(this.#whole(path), options);
  }

  existsSync(path: string): boolean {
    return this.#parent.existsSync(this.#whole(path));
  }

  listSync(path: string): string[] {
    return this.#parent.listSync(this.#whole(path));
  }

  makeDirectorySync(path: string): void {
    this.#parent.makeDirectorySync(this.#whole(path));
  }

  renameSync(from: string, to: string): void {
    this.#parent.renameSync(this.#whole(from), this.#whole(to));
  }

  deleteSync(path: string): void {
    this.#parent.deleteSync(this.#whole(path));
  }

  syncDirectorySync(path: string): void {
    this.#parent.syncDirectorySync(this.#whole(path));
  }

  #whole(path: string): string {
    return path === "" ? this.#path : `${this.#path}/${path}`;
  }
}
