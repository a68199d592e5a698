import type { Readable } from "node:stream";

/** A stream's text, piece by piece. Bytes that are no UTF-8 become U+FFFD. */
export async function* decodeText(stream: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  for await (const piece of stream)
    yield typeof piece === "string" ? piece : decoder.decode(piece, { stream: true });
  yield decoder.decode();
}
