/** remote: the place in object storage that the store is uploaded to. */
import type { Command } from "commander";
import type { RemoteStatus } from "../../store/remote-status.ts";
import type { FollowerStatus } from "../../store/follower.ts";
import type { UploadStatus } from "../../store/upload-service.ts";
import type { CommandContext } from "../command-context.ts";
import type { CommandStore } from "../command-store.ts";
import { CommandError } from "../errors.ts";
import { examples } from "../examples.ts";
import { showBytes } from "../numbers.ts";
import { ProgressBar } from "../progress.ts";
import { showTime } from "../time.ts";

const REDRAW_MS = 200;

export function addRemoteCommands(program: Command, context: CommandContext): void {
  const group = program
    .command("remote")
    .description("keep the store in object storage too: S3, services like it, a directory");
  group
    .command("set <url>")
    .description("upload the store, now and whenever it changes")
    .addHelpText(
      "after",
      `
Credentials are found where all AWS clients look: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, the machine's role.
The endpoint of another service is a parameter of the URL, or AWS_ENDPOINT_URL. See docs/object-storage.md.
${examples([
  ["bough remote set s3://backups/shop"],
  ["bough remote set 's3://backups/shop?endpoint=https://minio.example.com'"],
  ["bough remote set file:///mnt/nas/shop"],
])}`,
    )
    .action((url: string) => set(context, url));
  for (const [name, description] of [
    ["show", "print where the store is uploaded to, and how far that is"],
    ["status", 'the same as "show"'],
  ] as const)
    group
      .command(name)
      .description(description)
      .addHelpText(
        "after",
        `\nWorks while another process has the store open, and changes nothing.${examples([[`bough remote ${name}`], [`bough remote ${name} --output json`]])}`,
      )
      .action(() => show(context));
  group
    .command("sync")
    .description("upload everything now; done when object storage has it")
    .addHelpText("after", examples([["bough remote sync"]]))
    .action(() => sync(context));
  group
    .command("unset")
    .description("upload no more; what is in object storage stays there")
    .addHelpText("after", examples([["bough remote unset"]]))
    .action(() => unset(context));
  group
    .command("gc")
    .description("delete what the store in object storage needs no more, after readers had an hour")
    .addHelpText("after", examples([["bough remote gc"]]))
    .action(() => collect(context));
}

async function set(context: CommandContext, url: string): Promise<void> {
  const path = context.directoryFor("upload");
  const { remoteUrl } = await import("../../store/remote-status.ts");
  const before = remoteUrl(path);
  let stored: UploadedTotals;
  try {
    const { LocalCommandStore } = await import("../local-command-store.ts");
    stored = await context.withLocalStore("upload", { remote: url }, (store) =>
      upload(context, new LocalCommandStore(store)),
    );
  } catch (error) {
    // What cannot be reached now would hold up every later command.
    if (before !== url && remoteUrl(path) === url)
      await context.withLocalStore(null, { remote: before }, () => {});
    throw error;
  }
  const { bytes, objects, lsn } = stored;
  await context.printDone(
    `Store "${path}" is in "${url}" now, up to LSN ${lsn}: ${showBytes(bytes)} in ${objects} objects stored; what changes goes up from now on`,
    { store: path, url, ...stored },
  );
}

interface UploadedTotals {
  readonly bytes: number;
  readonly objects: number;
  readonly lsn: number;
  readonly manifestNumber: number | null;
}

/** Returns what this has stored. */
async function upload(context: CommandContext, store: CommandStore): Promise<UploadedTotals> {
  const before = totalsOf(await store.uploadStatus());
  const bar = new ProgressBar("Uploading", context.terminal.stderr);
  const { chunkBytes, historyBytes } = await store.diskUse();
  const draw = async (): Promise<void> => {
    const bytes = totalsOf(await store.uploadStatus()).bytes - before.bytes;
    const total = Math.max(bytes, chunkBytes + historyBytes);
    bar.update({ done: bytes, total, text: `${showBytes(bytes)} stored` });
  };
  // What cannot be asked now is no reason to fail.
  const timer = setInterval(() => void draw().catch(() => {}), REDRAW_MS);
  let status: UploadStatus | null;
  try {
    status = await store.upload();
  } finally {
    clearInterval(timer);
    bar.end();
  }
  if (status === null) throw new CommandError("REMOTE_NOT_FOUND", "Cannot upload: no URL is set");
  const after = totalsOf(status);
  const { uploadedLsn: lsn, manifestNumber } = status;
  return {
    bytes: after.bytes - before.bytes,
    objects: after.objects - before.objects,
    lsn,
    manifestNumber,
  };
}

/** Of all that the process has stored. */
function totalsOf(status: UploadStatus | null): { bytes: number; objects: number } {
  if (status === null) return { bytes: 0, objects: 0 };
  const { slices, manifests, files, runs, bytes } = status.statistics;
  return { bytes, objects: slices + manifests + files + runs };
}

async function sync(context: CommandContext): Promise<void> {
  requireWriter(context, "upload");
  await context.withStore(async (store) => {
    const stored = await upload(context, store);
    const url = (await store.uploadStatus())?.url;
    await context.printDone(
      `All of store "${store.path}" is in "${url}", up to LSN ${stored.lsn}: ${showBytes(stored.bytes)} in ${stored.objects} objects stored now`,
      { store: store.path, url, ...stored },
    );
  });
}

/** A server says itself what it cannot do. */
function requireWriter(context: CommandContext, what: string): void {
  if (context.url === null) context.directoryFor(what);
}

async function unset(context: CommandContext): Promise<void> {
  const path = context.directoryFor("change the upload of");
  const { remoteUrl } = await import("../../store/remote-status.ts");
  const before = remoteUrl(path);
  await context.withLocalStore("change the upload of", { remote: null }, () => {});
  await context.printDone(
    before === null
      ? `Store "${path}" is not uploaded`
      : `Store "${path}" is not uploaded any more; what is in "${before}" stays there`,
    { store: path, url: null, before },
  );
}

async function collect(context: CommandContext): Promise<void> {
  requireWriter(context, "delete objects of");
  await context.withStore(async (store) => {
    const report = await store.collectRemote();
    const { deletedObjects, deletedBytes, waitingObjects, waitingBytes } = report;
    await context.printDone(
      `Deleted ${objects(deletedObjects)} (${showBytes(deletedBytes)}); ${objects(waitingObjects)} (${showBytes(waitingBytes)}) are not needed any more and wait until no reader can be at them`,
      report,
    );
  });
}

function objects(count: number): string {
  return count === 1 ? "1 object" : `${count} objects`;
}

async function show(context: CommandContext): Promise<void> {
  if (context.isRemote || context.url !== null) {
    await context.withStore(async (store) => {
      const status =
        (context.isRemote ? null : await store.remoteStatus()) ??
        (await store.followerStatus()) ??
        (await store.uploadStatus());
      if (context.format === "json") await context.printJson(status);
      else for (const line of statusLines(status)) await context.printLine(line);
    });
    return;
  }
  const { remoteStatus } = await import("../../store/remote-status.ts");
  const status = await remoteStatus(context.storePath);
  if (context.format === "json") await context.printJson(status);
  else for (const line of remoteStatusLines(status)) await context.printLine(line);
}

function statusLines(status: RemoteStatus | FollowerStatus | UploadStatus | null): string[] {
  if (status === null) return [line("Object storage", STATES.none)];
  if ("error" in status) return remoteStatusLines(status);
  return "lsn" in status ? followerLines(status) : writerLines(status);
}

const STATES: Readonly<Record<RemoteStatus["state"], string>> = {
  none: 'not uploaded; "bough remote set URL" begins that',
  empty: "nothing is stored there yet",
  behind: "behind",
  current: "everything is there",
  fenced: "another directory has become the writer there; nothing goes up from here",
  unreachable: "cannot be reached",
};

/** What people read of it. */
export function remoteStatusLines(status: RemoteStatus): string[] {
  const { url, state, manifest, uploadedLsn, durableLsn, uploadedAt, error } = status;
  if (url === null) return [line("Object storage", STATES[state])];
  const lag = uploadedLsn === null ? 0 : durableLsn - uploadedLsn;
  const text = state === "behind" ? `${lag} log records are not there yet` : STATES[state];
  const lines = [line("Object storage", url), line("State", text)];
  if (uploadedLsn !== null)
    lines.push(line("Uploaded", `LSN ${uploadedLsn} of ${durableLsn}, at ${showTime(uploadedAt)}`));
  if (manifest !== null)
    lines.push(
      line("Manifest", `${manifest.number}, at ${showTime(manifest.at)} by ${manifest.writer}`),
    );
  if (error !== null) lines.push(line("Error", error));
  return lines;
}

/** Of a store that is opened by its URL. */
function writerLines({ url }: UploadStatus): string[] {
  return [line("Object storage", url), line("State", "this machine is the writer")];
}

export function followerLines(follower: FollowerStatus): string[] {
  const { url, lsn, checkedAt, manifestNumber, lastError, requests, fetchedBytes } = follower;
  return [
    line("Object storage", url),
    line("State", "followed, read-only"),
    line("Shown", `LSN ${lsn}, manifest ${manifestNumber}, as of ${showTime(checkedAt)}`),
    line("Fetched", `${requests} requests, ${showBytes(fetchedBytes)} of pages and indexes`),
    ...(lastError === null ? [] : [line("Error", lastError)]),
  ];
}

function line(title: string, text: string): string {
  return `${title.padEnd(18)} ${text}`;
}
