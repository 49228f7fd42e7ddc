import type { AuditEntry } from "../api/audit.ts";
import { makeIdentifier } from "../api/identifier.ts";

/** Failed attempts that are equal but for their time and what they were aimed at. */
interface Group {
  first: AuditEntry;
  /** Attempts after the first. */
  more: number;
  last: AuditEntry;
}

/**
 * Counts failed attempts that are equal to one that was recorded a short while ago, so that a flood of them cannot fill
 * the audit log: in each window at most `groupsMax` + 1 groups have entries, each one for its first attempt, at once,
 * and one that counts the others, at the window's end.
 */
export class Refusals {
  readonly #groups = new Map<string, Group>();
  readonly #groupsMax: number;
  readonly #record: (entry: AuditEntry) => void;

  constructor(groupsMax: number, record: (entry: AuditEntry) => void) {
    this.#groupsMax = groupsMax;
    this.#record = record;
  }

  /** Records a failed attempt, or counts it. */
  add(entry: AuditEntry): void {
    const own = [entry.projectId, entry.actorId, entry.event, entry.outcome, networkOf(entry.address)].join(
      "\n",
    );
    const isNew = !this.#groups.has(own);
    const key = isNew && this.#groups.size >= this.#groupsMax ? "" : own;
    const group = this.#groups.get(key);
    if (group === undefined) {
      this.#groups.set(key, { first: entry, more: 0, last: entry });
      this.#record(entry);
    } else {
      group.more++;
      group.last = entry;
    }
  }

  /** Ends a window: records how many attempts were counted in it. */
  endWindow(): void {
    for (const [key, { more, last }] of this.#groups) {
      if (more === 0) continue;
      const { id, createdAt: at } = makeIdentifier("audit");
      // Of attempts in more groups than there may be, nothing is the same.
      const mixed = key === "" && {
        actorId: null,
        projectId: "",
        address: "",
        userAgent: null,
        forwardedFor: null,
      };
      this.#record({ ...last, ...mixed, id, at, count: more });
    }
    this.#groups.clear();
  }
}

/** An IPv6 address without its last 64 bits, of which one machine may have all. */
function networkOf(address: string): string {
  return address.includes(":") && !address.includes(".") ? address.split(":").slice(0, 4).join(":") : address;
}
