/**
 * Hrana's requests as the server works with them, after decode.ts has checked them. Versions 1 to 3 and both transports share them.
 */
import type { ArgumentValue, NamedArgument } from "../../sqlite/async-executor.ts";

export type HranaVersion = 1 | 2 | 3;

/** The text itself, or the number of one that was stored. */
export type SqlReference = { readonly sql: string } | { readonly sqlId: number };

export interface HranaStatement {
  readonly sql: SqlReference;
  readonly values: readonly ArgumentValue[];
  readonly namedValues: readonly NamedArgument[];
  readonly wantsRows: boolean;
}

/** Of a step of a batch; steps are those before it, from 0. */
export type BatchCondition =
  | { readonly type: "ok" | "error"; readonly step: number }
  | { readonly type: "not"; readonly condition: BatchCondition }
  | { readonly type: "and" | "or"; readonly conditions: readonly BatchCondition[] }
  | { readonly type: "is_autocommit" };

export interface BatchStep {
  /** Null: it always runs. */
  readonly condition: BatchCondition | null;
  readonly statement: HranaStatement;
}

/** What a stream is asked, whatever carries it. */
export type StreamRequest =
  | { readonly type: "execute"; readonly statement: HranaStatement }
  | { readonly type: "batch"; readonly steps: readonly BatchStep[] }
  | { readonly type: "sequence"; readonly sql: SqlReference }
  | { readonly type: "describe"; readonly sql: SqlReference }
  | { readonly type: "store_sql"; readonly sqlId: number; readonly sql: string }
  | { readonly type: "close_sql"; readonly sqlId: number }
  | { readonly type: "get_autocommit" }
  | { readonly type: "close" };

export interface PipelineRequest {
  /** Null: a new stream. */
  readonly baton: string | null;
  readonly requests: readonly StreamRequest[];
}

export interface CursorRequest {
  readonly baton: string | null;
  readonly steps: readonly BatchStep[];
}

/** What a WebSocket is asked. */
export type SocketRequest =
  | { readonly type: "open_stream"; readonly streamId: number }
  | { readonly type: "close_stream"; readonly streamId: number }
  | { readonly type: "store_sql"; readonly sqlId: number; readonly sql: string }
  | { readonly type: "close_sql"; readonly sqlId: number }
  | { readonly type: "stream"; readonly streamId: number; readonly request: StreamRequest };

export type SocketMessage =
  | { readonly type: "hello"; readonly jwt: string | null }
  | {
      readonly type: "request";
      readonly requestId: number;
      /** As it came: what is wrong with it is answered to that request. */
      readonly request: unknown;
    };
