import { once } from "node:events";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import {
  createStore,
  expectExactCounts,
  expectNoLeak,
  makeRows,
  readIds,
} from "../../support/stores/ingest-store.ts";
import { startHttpUpload } from "../../support/clients/ingest-upload.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
});

const ingestUrl = (id: string, query = "") =>
  `${server.url}/v1/vector_stores/${id}/embeddings/ingest${query}`;
const lines = (rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
const more = lines(makeRows(1_000, "more"));
const random = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7919) % 251));

interface Case {
  name: string;
  url: () => string;
  first: string | Buffer;
  next: string | Buffer;
  headers?: Record<string, string>;
  status: number;
  rows: number;
}

const cases: Case[] = [
  {
    name: "the store is unknown",
    url: () => ingestUrl("vs_none"),
    first: more,
    next: more,
    status: 404,
    rows: 0,
  },
  {
    name: "the query is wrong",
    url: () => ingestUrl(storeId, "?mode=x"),
    first: more,
    next: more,
    status: 400,
    rows: 0,
  },
  {
    name: "the type is wrong",
    url: () => ingestUrl(storeId),
    first: more,
    next: more,
    headers: { "content-type": "text/csv" },
    status: 415,
    rows: 0,
  },
  {
    name: "a row is refused",
    url: () => ingestUrl(storeId, "?on_error=abort"),
    first: lines([...makeRows(100), { id: "bad" }]),
    next: more,
    status: 400,
    rows: 100,
  },
  {
    name: "it is not gzip",
    url: () => ingestUrl(storeId),
    first: more,
    next: more,
    headers: { "content-type": "application/x-ndjson", "content-encoding": "gzip" },
    status: 400,
    rows: 0,
  },
  {
    name: "a row in gzip is refused",
    url: () => ingestUrl(storeId, "?on_error=abort"),
    first: gzipSync(lines([...makeRows(100), { id: "bad" }, ...makeRows(200, "s")])),
    next: random,
    headers: { "content-type": "application/x-ndjson", "content-encoding": "gzip" },
    status: 400,
    rows: 100,
  },
];

describe.each(["1.1", "2"] as const)("over HTTP/%s", (version) => {
  test.each(cases)(
    "the answer comes while the client still uploads: $name",
    async ({ url, first, next, headers, status, rows }) => {
      const upload = startHttpUpload(version, url(), headers);
      let isAnswered = false;
      void upload.closed.then(() => {
        isAnswered = true;
      });
      const uploading = (async () => {
        await upload.write(first);
        // It never ends by itself, as a pipe that goes on.
        while (!isAnswered) {
          await upload.write(next);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      })();
      const reply = await upload.reply;
      expect(reply.status, reply.text).toBe(status);
      expect(JSON.parse(reply.text)).toMatchObject({ error: { message: expect.stringMatching(/\w/) } });
      // The service does not take what nobody reads for ever.
      await uploading;
      expect(await readIds(server, storeId)).toHaveLength(rows);
      await expectExactCounts(server, storeId);
      await expectNoLeak(server);
    },
  );
});

test.each(cases.flatMap((given) => ["keep-alive", "close"].map((connection) => ({ ...given, connection }))))(
  "a client that reads only when it has sent 20 MiB gets the answer: $name, $connection",
  async (given) => {
    const { hostname, port } = new URL(server.url);
    const socket = connect({ host: hostname, port: Number(port) });
    await once(socket, "connect");
    const rest = Buffer.alloc(20 * 1024 * 1024, given.next);
    const path = given.url().slice(server.url.length);
    const headers = {
      "content-type": "application/x-ndjson",
      connection: given.connection,
      ...given.headers,
    };
    socket.write(
      [
        `PUT ${path} HTTP/1.1`,
        `host: ${hostname}`,
        `content-length: ${Buffer.byteLength(given.first) + rest.length}`,
        ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
        "\r\n",
      ].join("\r\n"),
    );
    socket.write(given.first);
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.write(rest, () => resolve());
    });
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(new RegExp(`^HTTP/1.1 ${given.status} `));
    socket.destroy();
  },
);

test("a connection whose upload was refused can be used again when the upload was whole", async () => {
  const { hostname, port } = new URL(server.url);
  const socket = connect({ host: hostname, port: Number(port) });
  const request = (id: string) =>
    `PUT ${ingestUrl(id).slice(server.url.length)} HTTP/1.1\r\nhost: ${hostname}\r\ncontent-length: ${Buffer.byteLength(more)}\r\n\r\n${more}`;
  socket.write(request("vs_none"));
  const [first] = (await once(socket, "data")) as [Buffer];
  expect(first.toString()).toMatch(/^HTTP\/1.1 404 /);
  socket.write(request(storeId));
  const [second] = (await once(socket, "data")) as [Buffer];
  expect(second.toString()).toMatch(/^HTTP\/1.1 200 /);
  socket.destroy();
});
