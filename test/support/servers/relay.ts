import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import type { TestServer } from "./server.ts";

/** A TCP proxy in front of the service, which simulates network faults. */
export interface Relay extends Pick<TestServer, "url" | "address">, AsyncDisposable {
  /** Closes every connection at once, without an HTTP response or GOAWAY. */
  readonly cut: () => void;
  /** Stops forwarding without closing any connection, like a network that drops all packets. */
  readonly hold: () => void;
  /** Lets new connections through again, as after a failover; those held stay silent. */
  readonly renew: () => void;
}

/** Starts a proxy in front of a server, by default on a free port. */
export async function startRelay({ address }: Pick<TestServer, "address">, relayPort = 0): Promise<Relay> {
  const [host, port] = address.split(":");
  const sockets = new Set<Socket>();
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  let isHeld = false;
  const hold = () => {
    isHeld = true;
    for (const socket of sockets) socket.unpipe().pause();
  };
  const renew = () => {
    isHeld = false;
  };
  const server = createServer((near) => {
    if (isHeld) return void sockets.add(near.on("error", () => {}));
    const far = connect({ host, port: Number(port) });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.once("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  server.listen(relayPort, "127.0.0.1");
  await once(server, "listening");
  const relayed = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `http://${relayed}`,
    address: relayed,
    cut,
    hold,
    renew,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      cut();
      await closed;
    },
  };
}
