import { keep } from "../../api/fresh-cache.ts";

/** Limits of what an address may do before its new connections are closed. */
export interface PenaltyBounds {
  /** Connections that may reset too many streams, within `abuseWindowMs`. */
  abusiveConnectionsMax: number;
  /** Period in ms, for which new connections of the address are then closed, too. */
  abuseWindowMs: number;
}

/** Addresses that are remembered at the same time, so that many of them take no memory. */
const ADDRESSES_MAX = 10_000;

interface Record {
  abuses: number;
  /** When the period, or the penalty, is over. */
  untilMs: number;
}

/**
 * Remembers addresses whose connections reset too many streams (rapid reset). An end by GOAWAY alone does not stop
 * them: each connects again at once, and costs as much again. Mild, since all clients of a proxy have its address:
 * open connections go on unless they reset streams, too, and only for seconds no new one is taken. Each worker has its
 * own: what an address may do before its penalty is little, so sharing would gain little.
 */
export class Penalties {
  readonly #bounds: PenaltyBounds;
  readonly #records = new Map<string, Record>();

  constructor(bounds: PenaltyBounds) {
    this.#bounds = bounds;
  }

  /** Whether new connections of an address are to be closed. */
  isPenalized(address: string): boolean {
    const record = this.#current(address);
    return record !== undefined && record.abuses > this.#bounds.abusiveConnectionsMax;
  }

  /** Records a connection that has reset too many streams. */
  add(address: string): void {
    const record = this.#current(address) ?? { abuses: 0, untilMs: this.#end() };
    record.abuses++;
    // The penalty has its whole time from now on.
    if (record.abuses > this.#bounds.abusiveConnectionsMax) record.untilMs = this.#end();
    keep(this.#records, address, record, ADDRESSES_MAX);
  }

  #current(address: string): Record | undefined {
    const record = this.#records.get(address);
    if (record === undefined || performance.now() < record.untilMs) return record;
    this.#records.delete(address);
    return undefined;
  }

  #end(): number {
    return performance.now() + this.#bounds.abuseWindowMs;
  }
}
