import type { Server, Socket } from "node:net";
import { Slots } from "../api/slots.ts";

/** Closes new connections of an address that has `max` open ones. */
export function boundAddresses(server: Server, max: number): void {
  const open = new Slots(Infinity, max);
  server.prependListener("connection", (socket: Socket) => {
    const slot = open.tryTake(socket.remoteAddress ?? "");
    if (slot === undefined) socket.destroy();
    else socket.once("close", () => slot[Symbol.dispose]());
  });
}
