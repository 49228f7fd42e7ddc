import type { Readable, Writable } from "node:stream";

/**
 * Copies a worker's output line by line. Several processes that wrote to one pipe would mix their lines whenever the
 * pipe is full. A reader that does not read stops the worker, as it stops a single process.
 */
export function forwardLines(from: Readable, to: Writable): void {
  let rest = "";
  from.setEncoding("utf8");
  from.on("data", (text: string) => {
    const end = text.lastIndexOf("\n") + 1;
    if (end === 0) return void (rest += text);
    const isTaken = to.write(rest + text.slice(0, end));
    rest = text.slice(end);
    if (isTaken) return;
    from.pause();
    to.once("drain", () => from.resume());
  });
  from.once("end", () => rest !== "" && to.write(rest));
}
