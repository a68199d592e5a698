/**
 * Keys that every object store takes: names joined by "/". No name is empty or begins with "." (the directory store keeps its
 * own files under such names, and ".." would leave it), none has a backslash or a control character.
 */
const KEY_BYTES_MAX = 900;
/** What file systems take. */
const NAME_BYTES_MAX = 255;

const NAME = /^(?!\.)[^/\\\p{Cc}\p{Cs}]+$/u;

/** Throws TypeError for a key that some store would refuse. Keys are bough's own, so that this is a bug. */
export function checkObjectKey(key: string): void {
  const good =
    key.split("/").every((name) => NAME.test(name) && Buffer.byteLength(name) <= NAME_BYTES_MAX) &&
    Buffer.byteLength(key) <= KEY_BYTES_MAX;
  if (!good) throw new TypeError(`Key of an object ${JSON.stringify(key)}: it is not allowed`);
}

/** The order of S3: by the bytes of UTF-8, in which text beyond U+FFFF comes last. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
