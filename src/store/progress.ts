/** What long work tells its caller from time to time. */
export interface ByteProgress {
  /** Done so far. */
  readonly bytes: number;
  readonly totalBytes: number;
}
