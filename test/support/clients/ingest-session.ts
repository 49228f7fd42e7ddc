import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { WriteMode } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import {
  IngestRequestSchema,
  IngestService,
  type IngestEvent,
  type IngestRequest,
  type IngestSummary,
} from "../../../gen/pgquiver/v1/ingest_pb.ts";
import type { TestServer } from "../servers/server.ts";

/** An ingest over gRPC, made by a key. */
export interface KeyedIngest {
  send(seq: number, rows: readonly { id?: string; content: string; embedding?: number[] }[]): void;
  finish(rows: number): void;
  /** Resolves when the service has opened the ingest. */
  opened: Promise<void>;
  /** The events of committed batches, and the summary. */
  summary: Promise<IngestSummary>;
}

/** Opens a session into a store. */
export function openIngest(
  { url }: Pick<TestServer, "url">,
  key: string,
  vectorStoreId: string,
  settings: { mode?: WriteMode; ingestId?: string } = {},
): KeyedIngest {
  const sessionManager = new Http2SessionManager(url);
  const client = createClient(IngestService, createGrpcTransport({ baseUrl: url, sessionManager }));
  const waiting: IngestRequest[] = [];
  let isEnded = false;
  let wake = () => {};
  const put = (message: IngestRequest["message"]) => {
    waiting.push(create(IngestRequestSchema, { message }));
    wake();
  };
  async function* requests(): AsyncGenerator<IngestRequest> {
    for (;;) {
      const next = waiting.shift();
      if (next !== undefined) yield next;
      else if (isEnded) return;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  }
  put({ case: "open", value: { vectorStoreId, ...settings } as never });
  const opened = Promise.withResolvers<void>();
  const read = async () => {
    let last: IngestEvent["event"] | undefined;
    const headers = { authorization: `Bearer ${key}` };
    try {
      for await (const { event } of client.ingestSession(requests(), { headers })) {
        opened.resolve();
        last = event;
      }
    } finally {
      isEnded = true;
      wake();
      sessionManager.abort();
    }
    return last?.value as IngestSummary;
  };
  const summary = read();
  summary.catch(opened.reject);
  opened.promise.catch(() => {});
  return {
    send: (seq, rows) => put({ case: "batch", value: { seq: BigInt(seq), rows } as never }),
    finish(rows) {
      put({ case: "finish", value: { rows: BigInt(rows) } as never });
      isEnded = true;
      wake();
    },
    opened: opened.promise,
    summary,
  };
}
