/**
 * Entry point of a reading process (`process.ts` forks it). The process reads one file at a time.
 * Backpressure in both directions: it requests the file's bytes piece by piece, and waits after each batch of
 * chunks until the parent has taken the batch. The process ends when the parent does.
 */
import { on } from "node:events";
import { inspect } from "node:util";
import { readDocument, type Pages } from "./document.ts";
import { DocumentError } from "./error.ts";
import type { Answer, Request } from "./messages.ts";

const requests: AsyncIterator<Request[]> = on(process, "message");

async function ask(answer: Answer): Promise<Request> {
  process.send?.(answer);
  const { value } = await requests.next();
  return value[0];
}

async function* receiveBytes(): AsyncGenerator<Uint8Array> {
  for (;;) {
    const request = await ask({ kind: "need" });
    if (request.kind !== "bytes") return;
    yield request.bytes;
  }
}

async function read(request: Request): Promise<Answer> {
  if (request.kind !== "read") throw new Error(`${request.kind} answers nothing`);
  try {
    let pages: Pages | undefined;
    const onPages = (now: Pages) => (pages = now);
    for await (const chunks of readDocument(request.document, receiveBytes(), request.limits, onPages)) {
      await ask({ kind: "chunks", chunks, pages });
    }
    return { kind: "done", rssBytes: process.memoryUsage.rss() };
  } catch (error) {
    return { kind: "failed", ...describe(error), rssBytes: process.memoryUsage.rss() };
  }
}

/**
 * Classifies a failure. An unexpected exception of a parser is deterministic, so a retry would fail again: it
 * is reported as `invalid_file`, which is final.
 */
function describe(error: unknown): Pick<Answer & { kind: "failed" }, "code" | "message" | "cause"> {
  if (error instanceof DocumentError) {
    return { code: error.code, message: error.message, cause: inspect(error.cause) };
  }
  return {
    code: "invalid_file",
    message: "The file cannot be read: it may be damaged.",
    cause: inspect(error),
  };
}

process.on("disconnect", () => process.exit());
// Ctrl-C in a terminal signals the whole process group; the parent decides when its reading processes end.
process.on("SIGINT", () => {}).on("SIGTERM", () => {});

let request = await ask({ kind: "ready" });
for (;;) request = await ask(await read(request));
