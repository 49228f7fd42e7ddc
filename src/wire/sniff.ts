import type { Socket } from "node:net";

/** Passes a socket on to its protocol. `head`: the bytes that were read of it, which it has been given back. */
export type Route = (socket: Socket, isHttp2: boolean, head: Buffer) => void;

/**
 * Detects the protocol by the first bytes: "PRI" begins the HTTP/2 preface. Then calls `route`; a socket that
 * shows no protocol within `timeoutMs` is closed. Calls `settled` in both cases.
 */
export function sniff(socket: Socket, timeoutMs: number, route: Route, settled: () => void): void {
  let head: Buffer = Buffer.alloc(0);
  const onReadable = () => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    head = Buffer.concat([head, chunk]);
    const start = head.toString("latin1", 0, 3);
    const isHttp2 = start === "PRI";
    // Keep a short prefix aside until more arrives: unshift would emit "readable" again at once, a busy loop.
    if (!isHttp2 && "PRI".startsWith(start)) return;
    release();
    socket.unshift(head);
    route(socket, isHttp2, head);
  };
  const drop = () => socket.destroy();
  const release = () => {
    clearTimeout(deadline);
    socket.off("readable", onReadable).off("end", drop).off("error", drop).off("close", release);
    settled();
  };
  const deadline = setTimeout(drop, timeoutMs);
  socket.on("readable", onReadable).on("end", drop).on("error", drop).on("close", release);
}
