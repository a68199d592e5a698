/**
 * A connection of the server in the thread that has its database: calls come as messages, and what it tells goes back.
 *
 * O2. What a call ends with is told at once; its answer comes when that is durable, or is the same when there is nothing to wait for.
 */
import type { CallLimits } from "../../sqlite/async-calls.ts";
import type { ExecuteRequest } from "../../sqlite/async-executor.ts";
import type { CarriedError } from "../../threads/carried-error.ts";
import type { HostedThing } from "../../threads/hosted-service.ts";
import type { CallContext } from "../../threads/served.ts";
import type { ServedConnection } from "../served-store.ts";
import type { RowBatch, Told } from "./connection-message.ts";
import { RowSender } from "./row-sender.ts";

export class PartitionConnection implements HostedThing {
  readonly #connection: ServedConnection;
  /** Of the statements that run, one after the other. */
  readonly #senders: Map<number, RowSender> = new Map();

  constructor(connection: ServedConnection) {
    this.#connection = connection;
  }

  interrupt(): void {
    this.#connection.interrupt();
  }

  async answer(
    method: string,
    parameters: readonly unknown[],
    context: CallContext,
  ): Promise<Told | null> {
    const connection = this.#connection;
    const { limits } = context;
    switch (method) {
      case "execute": {
        const [number, request, wantsRows] = parameters as [number, ExecuteRequest, boolean];
        return await this.#execute(number, { request, wantsRows, limits }, context);
      }
      case "taken": {
        const [number, bytes] = parameters as [number, number];
        this.#senders.get(number)?.taken(bytes);
        return null;
      }
      case "stop": {
        const [number] = parameters as [number];
        this.#senders.get(number)?.end();
        return null;
      }
      case "script":
        return await this.#told(context, () => connection.script(parameters[0] as string, limits));
      case "describe":
        return await this.#told(context, () =>
          connection.describe(parameters[0] as string, limits),
        );
      case "rollBack":
        return await this.#told(context, () => connection.rollBack());
      case "settled":
        await connection.settled(parameters[0] as boolean);
        return null;
      case "close":
        await connection.close();
        return null;
      default:
        throw new TypeError(`A connection has no "${method}"`);
    }
  }

  async #execute(
    number: number,
    {
      request,
      wantsRows,
      limits,
    }: {
      readonly request: ExecuteRequest;
      readonly wantsRows: boolean;
      readonly limits: CallLimits;
    },
    context: CallContext,
  ): Promise<Told | null> {
    const sender = new RowSender(wantsRows, context.event);
    this.#senders.set(number, sender);
    return await this.#told(
      context,
      async () => {
        try {
          return await this.#connection.execute(request, sender, limits);
        } finally {
          this.#senders.delete(number);
        }
      },
      (transfer) => sender.take(transfer),
    );
  }

  /** O2. */
  async #told(
    context: CallContext,
    run: () => Promise<unknown>,
    rest: ((transfer: ArrayBuffer[]) => RowBatch) | null = null,
  ): Promise<Told | null> {
    let value: unknown = null;
    let error: CarriedError | null = null;
    try {
      value = await run();
    } catch (caught) {
      error = context.carry(caught);
    }
    const { isAutocommit, isClean } = this.#connection;
    const settled = this.#connection.settled();
    const transfer: ArrayBuffer[] = [];
    const told = { isAutocommit, isClean, error, batch: rest?.(transfer) ?? null, value };
    if (settled === null) {
      context.transfer.push(...transfer);
      return told;
    }
    context.event({ kind: "told", told }, transfer);
    await settled;
    return null;
  }
}
