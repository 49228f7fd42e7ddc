import type { Server, Socket } from "node:net";

/** Counts by peer address, for limits on what one client may take. */
export class AddressCount {
  readonly #counts = new Map<string, number>();

  /** Counts one more of an address; false if it has `max` already. Each true needs a `remove`. */
  tryAdd(address: string, max: number): boolean {
    const count = this.#counts.get(address) ?? 0;
    if (count >= max) return false;
    this.#counts.set(address, count + 1);
    return true;
  }

  remove(address: string): void {
    const count = (this.#counts.get(address) ?? 0) - 1;
    if (count > 0) this.#counts.set(address, count);
    else this.#counts.delete(address);
  }
}

/** Closes new connections of an address that has `max` open ones. */
export function boundAddresses(server: Server, max: number): void {
  const open = new AddressCount();
  server.prependListener("connection", (socket: Socket) => {
    const address = socket.remoteAddress ?? "";
    if (open.tryAdd(address, max)) socket.once("close", () => open.remove(address));
    else socket.destroy();
  });
}
