/**
 * Long work that goes on after its request was answered.
 *
 *   running --its work is done--> done
 *           --its work fails--> failed
 *           --cancel, or the server stops, and the work gives up--> cancelled
 *
 * Z1. At most `runningMax` run, at most `keptMax` that have ended are remembered: the oldest go. They live as long as the server.
 * Z2. A job that was cancelled after its work was done is done. Work that cannot be ended early goes on to its end.
 * Z3. Whoever listens is told at once of the end, of progress at most every PROGRESS_MS; each time of the whole job.
 */
import { randomUUID } from "node:crypto";
import { StoreError } from "../../errors.ts";
import { describeFailure } from "../failure.ts";
import { type Problem, problemOf } from "../problem.ts";

export type JobKind = "check" | "collect-remote" | "expire" | "gc" | "import" | "scrub" | "upload";

export interface JobTarget {
  /** Null: the server. */
  readonly database: string | null;
  readonly branch: string | null;
}

export interface JobProgress {
  readonly phase: string | null;
  readonly done: number;
  /** Null: it is not known. */
  readonly total: number | null;
}

export interface JobFacts {
  readonly id: string;
  readonly kind: JobKind;
  readonly state: "running" | "done" | "failed" | "cancelled";
  readonly target: JobTarget;
  readonly isCancellable: boolean;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  readonly progress: JobProgress | null;
  /** Of a job that is done; also of a scrub that was cancelled. */
  readonly result: unknown;
  readonly problem: Problem | null;
}

export interface JobTools {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: JobProgress) => void;
}

export interface JobRequest {
  readonly kind: JobKind;
  readonly target: JobTarget;
  /** The id of the principal that has begun it. */
  readonly owner: string;
  readonly isCancellable: boolean;
  readonly work: (tools: JobTools) => Promise<unknown>;
  /** What the owner may see of an error. */
  readonly redact: (error: unknown) => unknown;
}

export interface JobTableOptions {
  readonly runningMax?: number;
  readonly keptMax?: number;
  /** Milliseconds; only differences count. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly onBug: (error: unknown) => void;
}

const RUNNING_MAX = 16;
const KEPT_MAX = 256;
const PROGRESS_MS = 100;

export class Job {
  readonly id: string = randomUUID();
  readonly owner: string;
  readonly target: JobTarget;
  /** What its work has come to; it fails as the work does. */
  readonly outcome: Promise<unknown>;
  /** Never fails. */
  readonly ended: Promise<void>;
  /** Grows with each thing that is told. */
  number = 1;
  readonly #request: JobRequest;
  readonly #options: JobTableOptions;
  readonly #abort: AbortController = new AbortController();
  readonly #listeners: Set<() => void> = new Set();
  readonly #startedAt: Date;
  #toldAt = -Infinity;
  #state: JobFacts["state"] = "running";
  #endedAt: Date | null = null;
  #progress: JobProgress | null = null;
  #result: unknown = null;
  #problem: Problem | null = null;

  constructor(request: JobRequest, options: JobTableOptions) {
    this.#request = request;
    this.#options = options;
    this.owner = request.owner;
    this.target = request.target;
    this.#startedAt = new Date(options.clock());
    this.outcome = this.#work();
    this.ended = this.#run();
  }

  get isRunning(): boolean {
    return this.#state === "running";
  }

  get facts(): JobFacts {
    return {
      id: this.id,
      kind: this.#request.kind,
      state: this.#state,
      target: this.target,
      isCancellable: this.#request.isCancellable,
      startedAt: this.#startedAt,
      endedAt: this.#endedAt,
      progress: this.#progress,
      result: this.#result,
      problem: this.#problem,
    };
  }

  /** Z2. */
  cancel(): void {
    if (this.#request.isCancellable) this.#abort.abort(cancelled(this.#request.kind));
  }

  /** Returns what ends the listening. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async #work(): Promise<unknown> {
    const { signal } = this.#abort;
    const onProgress = (progress: JobProgress): void => this.#advance(progress);
    return await this.#request.work({ signal, onProgress });
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    const { redact } = this.#request;
    try {
      this.#result = await this.outcome;
      this.#state = isStopped(this.#result) ? "cancelled" : "done";
    } catch (error) {
      const failure = describeFailure(redact(error));
      if (failure.isInternal) this.#options.onBug(error);
      this.#state = signal.aborted && failure.code === "CANCELLED" ? "cancelled" : "failed";
      this.#problem = problemOf(failure);
    }
    this.#endedAt = new Date(this.#options.clock());
    this.#tell();
    this.#listeners.clear();
  }

  #advance(progress: JobProgress): void {
    this.#progress = progress;
    const now = this.#options.now();
    if (now - this.#toldAt < PROGRESS_MS) return;
    this.#toldAt = now;
    this.#tell();
  }

  #tell(): void {
    this.number++;
    for (const listener of this.#listeners) listener();
  }
}

export class JobTable {
  readonly #options: JobTableOptions;
  /** In the order in which they were begun. */
  readonly #jobs: Map<string, Job> = new Map();
  #isStopping = false;

  constructor(options: JobTableOptions) {
    this.#options = options;
  }

  /** Throws JOB_LIMIT or SERVER_STOPPING. */
  start(request: JobRequest): Job {
    if (this.#isStopping)
      throw new StoreError("SERVER_STOPPING", "Cannot begin a job: the server is being stopped", {
        retryable: true,
      });
    const { runningMax = RUNNING_MAX } = this.#options;
    const running = [...this.#jobs.values()].filter(({ isRunning }) => isRunning).length;
    if (running >= runningMax)
      throw new StoreError(
        "JOB_LIMIT",
        `Cannot begin a job: ${running} are running, which is as many as the server allows`,
        { retryable: true, details: { runningMax } },
      );
    const job = new Job(request, this.#options);
    this.#jobs.set(job.id, job);
    this.#forgetOld();
    return job;
  }

  /** The newest first. */
  list(): Job[] {
    return [...this.#jobs.values()].reverse();
  }

  find(id: string): Job | undefined {
    return this.#jobs.get(id);
  }

  /** Cancels what runs, begins nothing new, and resolves when all have ended. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const job of this.#jobs.values()) job.cancel();
    await Promise.all([...this.#jobs.values()].map(({ ended }) => ended));
  }

  /** Z1. */
  #forgetOld(): void {
    const { keptMax = KEPT_MAX } = this.#options;
    let ended = [...this.#jobs.values()].filter(({ isRunning }) => !isRunning).length;
    for (const job of this.#jobs.values()) {
      if (ended <= keptMax) return;
      if (job.isRunning) continue;
      this.#jobs.delete(job.id);
      ended--;
    }
  }
}

function cancelled(kind: JobKind): StoreError {
  return new StoreError("CANCELLED", `Cannot go on with the ${kind}: it was cancelled`);
}

/** A scrub that was ended says how far it came. */
function isStopped(result: unknown): boolean {
  return (
    typeof result === "object" &&
    result !== null &&
    "stoppedAt" in result &&
    result.stoppedAt !== null
  );
}
