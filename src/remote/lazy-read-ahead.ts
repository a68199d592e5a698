/**
 * Read-ahead for one object: where reads go on from where one ended, what follows is fetched before it is asked for. It begins
 * with the first such read that had to wait, doubles as the reader comes close to its end, and ends with the object.
 *
 *   read [first, last]:   goes on from an earlier one?  no, or nothing was missing yet -> remembered, nothing fetched
 *                         yes -> window = max(WINDOW_MIN, 2 * window), up to `windowMax` blocks after `last`
 */
interface Stream {
  /** The block after the last one read. */
  next: number;
  /** In blocks; 0 as long as nothing is fetched ahead. */
  window: number;
  /** The block after the last one that was fetched ahead. */
  end: number;
}

/** Blocks. */
const WINDOW_MIN = 2;
/** Readers that take turns on one object, each of which reads on. */
const STREAMS_MAX = 4;

export interface BlockRun {
  readonly first: number;
  readonly count: number;
}

export class ReadAhead {
  private readonly windowMax: number;
  /** Most recent first. */
  private readonly streams: Stream[] = [];

  constructor(windowMax: number) {
    this.windowMax = windowMax;
  }

  /** A read of blocks [first, last]; `isMissing`: it has to wait. Returns what to fetch ahead. */
  read(first: number, last: number, isMissing: boolean): BlockRun | null {
    // The same block again, as readers of pages do, or a read repeated after its fetch: nothing new.
    if (last + 1 === this.streams[0]?.next) return null;
    const stream = this.streamAt(first);
    if (stream === null) {
      this.streams.unshift({ next: last + 1, window: 0, end: last + 1 });
      if (this.streams.length > STREAMS_MAX) this.streams.pop();
      return null;
    }
    if (last + 1 === stream.next) return null;
    stream.next = last + 1;
    if (stream.window === 0 && !isMissing) return null;
    if (stream.end - stream.next > stream.window / 2) return null;
    stream.window = Math.min(this.windowMax, Math.max(WINDOW_MIN, 2 * stream.window));
    const from = Math.max(stream.end, stream.next);
    stream.end = stream.next + stream.window;
    return stream.end > from ? { first: from, count: stream.end - from } : null;
  }

  private streamAt(first: number): Stream | null {
    const index = this.streams.findIndex(({ next }) => first === next || first === next - 1);
    if (index === -1) return null;
    const [stream] = this.streams.splice(index, 1);
    if (stream === undefined) return null;
    this.streams.unshift(stream);
    return stream;
  }
}
