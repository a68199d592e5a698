/**
 * Who has a turn next: what waits is kept by group, each group's things by member, and taken in rounds, one thing of the next
 * group, and in it one of the next member. A member's own things keep their order.
 *
 * R1. Between two things of one group every other group that waits has one taken; the same holds for members of a group.
 */
import { Fifo } from "../sqlite/fifo.ts";

export class Rotation<T> {
  /** In the order of their turns. Maps keep the order in which keys are put in. */
  readonly #groups: Map<string, Map<number, Fifo<T>>> = new Map();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(group: string, member: number, thing: T): void {
    this.#size++;
    let members = this.#groups.get(group);
    if (members === undefined) this.#groups.set(group, (members = new Map()));
    let things = members.get(member);
    if (things === undefined) members.set(member, (things = new Fifo()));
    things.push(thing);
  }

  take(): T | undefined {
    const [next] = this.#groups;
    if (next === undefined) return undefined;
    const [group, members] = next;
    const [member, things] = members.entries().next().value!;
    this.#groups.delete(group);
    members.delete(member);
    const thing = things.shift();
    if (things.size > 0) members.set(member, things);
    if (members.size > 0) this.#groups.set(group, members);
    this.#size--;
    return thing;
  }
}
