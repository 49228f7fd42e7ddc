import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

/** An S3-like server that reads every request and never answers. */
export interface SilentBucket extends AsyncDisposable {
  /** A value for `FILES_BUCKET_URL`. */
  url: string;
  /** Resolves when `count` requests have been received completely. */
  received: (count: number) => Promise<void>;
}

/** Credentials, without which AWS's client sends no request. */
export const BUCKET_CREDENTIALS = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" };

/** Starts the server; `answer`, if given, handles the received requests. */
export async function startSilentBucket(answer: RequestListener = () => {}): Promise<SilentBucket> {
  let count = 0;
  let told = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    void text(request).then(
      () => {
        count += 1;
        told.resolve();
        told = Promise.withResolvers();
        answer(request, response);
      },
      () => {},
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `s3://bucket/files?endpoint=http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async received(wanted) {
      while (count < wanted) await told.promise;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
