/** What SQLite opens and attaches in a store: revisions. */
import { StoreError } from "../errors.ts";
import type { Vfs, VfsFile, VfsOpenOptions } from "../sqlite/vfs.ts";
import { ConnectionContext } from "../transaction/connection-context.ts";
import { RevisionFile } from "../transaction/revision-file.ts";
import type { Engine } from "./engine.ts";
import { waiting } from "../storage/not-local.ts";
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
    const parked = owner.parked?.target ?? null;
    const isMain = owner.files.size === 0;
    const isOnlyRead = parked === null && requireAdmitted(owner, name, isMain) === "read";
    const file: RevisionFile = new RevisionFile({
      target: parked ?? openTarget(engine, name, { readOnly: readOnly || isOnlyRead }),
      // The connection itself is opened read-only then.
      isReadOnly: isOnlyRead && !isMain,
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

/** What the connection may do with it; throws when that is nothing. */
function requireAdmitted(
  { admit }: ConnectionContext,
  name: string,
  isMain: boolean,
): "read" | "write" {
  return admit === null ? "write" : waiting(() => admit(name, isMain));
}
