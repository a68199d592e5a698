/** What SQLite opens and attaches in a store: revisions. */
import { StoreError } from "../errors.ts";
import type { Vfs, VfsFile, VfsOpenOptions } from "../sqlite/vfs.ts";
import { ConnectionContext } from "../transaction/connection-context.ts";
import { RevisionFile } from "../transaction/revision-file.ts";
import type { Engine } from "./engine.ts";
import { openTarget } from "./revision-target.ts";

/** What is a path and no revision: VACUUM INTO and ATTACH with a file. */
const FILE_LIKE = /^(?:[/\\.~]|file:|[A-Za-z]:[/\\])|\.(?:db|db3|sqlite|sqlite3)$/i;

export class StoreVfs implements Vfs {
  readonly #engine: Engine;
  readonly files: Set<RevisionFile> = new Set();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  open(name: string, { owner, readOnly }: VfsOpenOptions): VfsFile {
    if (!(owner instanceof ConnectionContext))
      throw new StoreError("STORE_CLOSED", `Cannot open "${name}": the connection has no store`);
    if (FILE_LIKE.test(name))
      throw new StoreError(
        "REVISION_INVALID",
        `Cannot open "${name}": SQL reaches the revisions of this store, not files; backup() or "bough export" writes a file, "bough import" brings one in`,
      );
    const engine = this.#engine;
    const file: RevisionFile = new RevisionFile({
      target: owner.parked?.target ?? openTarget(engine, name, { readOnly }),
      context: owner,
      pipeline: engine.pipeline,
      stager: engine,
      dirtyBytesMax: engine.options.transactionBytesMax,
      readsAhead: engine.state.storage.prefetch !== undefined,
      onClose: () => {
        this.files.delete(file);
        engine.state.holders.delete(file);
      },
    });
    this.files.add(file);
    engine.state.holders.add(file);
    return file;
  }

  setConcurrent(owner: object, isConcurrent: boolean): void {
    if (owner instanceof ConnectionContext) owner.isConcurrent = isConcurrent;
  }
}
