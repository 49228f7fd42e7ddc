import { bytesOf, dimensionsOf, type Insertion } from "./insertion.ts";
import type { Turn } from "./shared-wait.ts";

/** Rows and bytes of the insertions that share a transaction. */
const GROUP_ROWS_MAX = 128;
const GROUP_BYTES_MAX = 4 * 1024 * 1024;

/** An insertion that waits for a transaction, or is part of one. */
export interface Member extends Turn<boolean> {
  insertion: Insertion;
  signal: AbortSignal;
  /** Called when the caller has left. */
  leave: () => void;
}

/** The insertions that wait for one store, in turn of their callers: a caller with many delays the others by one each. */
export class InsertionQueue {
  /** The next caller first. */
  readonly #callers = new Map<string, Set<Member>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(caller: string, member: Member): void {
    const members = this.#callers.get(caller) ?? new Set();
    this.#callers.set(caller, members.add(member));
    this.#size++;
  }

  /** Removes a member; false when it does not wait any more. */
  remove(caller: string, member: Member): boolean {
    const members = this.#callers.get(caller);
    if (members?.delete(member) !== true) return false;
    if (members.size === 0) this.#callers.delete(caller);
    this.#size--;
    return true;
  }

  /**
   * Takes the members of a transaction, at most `share`: their ids are distinct and their vectors have the same
   * dimensions.
   */
  take(share: number): Member[] {
    const taken: Member[] = [];
    const ids = new Set<string>();
    let bytes = 0;
    for (let next = this.#next(); next !== undefined && taken.length < share; next = this.#next()) {
      const { insertion } = next.member;
      const { rows } = insertion;
      const first = taken[0]?.insertion ?? insertion;
      const fits =
        ids.size + rows.length <= GROUP_ROWS_MAX &&
        bytes + bytesOf(rows) <= GROUP_BYTES_MAX &&
        rows.every(({ id }) => !ids.has(id)) &&
        dimensionsOf(insertion) === dimensionsOf(first);
      if (!fits) break;
      this.#takeNext(next);
      taken.push(next.member);
      for (const { id } of rows) ids.add(id);
      bytes += bytesOf(rows);
    }
    return taken;
  }

  /** Takes all members, whatever they are. */
  takeAll(): Member[] {
    const taken: Member[] = [];
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#takeNext(next);
      taken.push(next.member);
    }
    return taken;
  }

  #next(): { caller: string; member: Member } | undefined {
    for (const [caller, [member]] of this.#callers) if (member !== undefined) return { caller, member };
    return undefined;
  }

  #takeNext({ caller, member }: { caller: string; member: Member }): void {
    this.remove(caller, member);
    const left = this.#callers.get(caller);
    // Round robin: the caller is last now.
    if (left !== undefined && this.#callers.delete(caller)) this.#callers.set(caller, left);
    member.begin();
  }
}
