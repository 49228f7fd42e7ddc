import type { Server, Socket } from "node:net";
import { Slots } from "../api/concurrency/slots.ts";
import type { Penalties } from "./http2/penalties.ts";

/** Closes new connections of an address that has `max` open ones, or a penalty. */
export function boundAddresses(server: Server, max: number, penalties: Penalties): void {
  const open = new Slots(Infinity, max);
  server.prependListener("connection", (socket: Socket) => {
    const address = socket.remoteAddress ?? "";
    const slot = penalties.isPenalized(address) ? undefined : open.tryTake(address);
    if (slot === undefined) socket.destroy();
    else socket.once("close", () => slot[Symbol.dispose]());
  });
}
