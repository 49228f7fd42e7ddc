import { expect, test } from "vitest";
import { createLogger } from "../../../src/log/logger.ts";
import { formatText, type Style } from "../../../src/log/text.ts";

const plain: Style = (_style, text) => text;

/** What one call of a logger looks like to people, without the time of day. */
function show(write: (log: ReturnType<typeof createLogger>) => void): string {
  let shown = "";
  const output = { write: (line: string) => void (shown += formatText(line, plain)) };
  write(createLogger({ level: "trace", format: "json" }, output));
  expect(shown).toMatch(/^\d\d:\d\d:\d\d [A-Z]/);
  return shown.slice("00:00:00 ".length);
}

test("a line for people has level, message and details, and no process id", () => {
  expect(show((log) => log.info("Ready"))).toBe("INFO  Ready\n");
  const line = { rpc: "pgquiver.v1.SearchService/Search", durationMs: 3.2, error: "No vector store" };
  expect(show((log) => log.child({ requestId: "r-1" }).warn(line, "failed"))).toBe(
    'WARN  pgquiver.v1.SearchService/Search failed durationMs=3.2 error="No vector store" requestId=r-1\n',
  );
});

test("a table and the lines of a message are indented under it", () => {
  expect(show((log) => log.info({ table: { address: "http://h", docs: "/docs" } }, "Ready"))).toBe(
    "INFO  Ready\n\n               address  http://h\n               docs     /docs\n\n",
  );
  expect(show((log) => log.fatal("The configuration is invalid:\n  PORT: no"))).toBe(
    "FATAL The configuration is invalid:\n                 PORT: no\n",
  );
});

test("an error is shown with its stack and its causes", () => {
  const error = new Error("outer", { cause: new Error("inner") });
  const shown = show((log) => log.error({ err: error }, "failed"));
  expect(shown).toMatch(/^ERROR failed\n {15}Error: outer\n {15} +at .+\n {15}caused by Error: inner\n/s);
});

test("control characters are shown, for a terminal would obey them", () => {
  expect(show((log) => log.info({ error: "\u001b[2J\u009b" }, "\u001b]0;title\u0007"))).toBe(
    'INFO  \\x1b]0;title\\x07 error="\\u001b[2J\\x9b"\n',
  );
});
