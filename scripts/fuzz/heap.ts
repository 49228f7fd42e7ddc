import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";

/** The heap of another Node process, read by its inspector. */
export interface Heap extends Disposable {
  /** Bytes in use after a full garbage collection. */
  usedBytes: () => Promise<number>;
}

/** A port, and the NODE_OPTIONS with which a process opens its inspector there. */
export async function inspectorOptions(): Promise<{ port: number; options: string }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return { port, options: `--inspect=127.0.0.1:${port} --inspect-publish-uid=http` };
}

/** Connects to the inspector of a process that was started with `inspectorOptions`. */
export async function openHeap(port: number): Promise<Heap> {
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as {
    webSocketDebuggerUrl: string;
  }[];
  const socket = new WebSocket(String(targets[0]?.webSocketDebuggerUrl));
  await once(socket, "open");
  let lastId = 0;
  const call = async (method: string) => {
    const id = ++lastId;
    const answered = new Promise<{ usedSize: number }>((resolve) => {
      const read = ({ data }: MessageEvent) => {
        const reply = JSON.parse(String(data)) as { id: number; result: { usedSize: number } };
        if (reply.id !== id) return;
        socket.removeEventListener("message", read);
        resolve(reply.result);
      };
      socket.addEventListener("message", read);
    });
    socket.send(JSON.stringify({ id, method }));
    return answered;
  };
  return {
    async usedBytes() {
      // What finalizers release goes with the second collection.
      await call("HeapProfiler.collectGarbage");
      await call("HeapProfiler.collectGarbage");
      return (await call("Runtime.getHeapUsage")).usedSize;
    },
    [Symbol.dispose]: () => socket.close(),
  };
}
