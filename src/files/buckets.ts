import { Readable } from "node:stream";
import type { S3Client } from "@aws-sdk/client-s3";
import type { ByteRange } from "../api/byte-range.ts";
import { unavailable } from "../errors.ts";

/** How long a bucket may take to accept a connection. */
const CONNECT_TIMEOUT_MS = 5_000;

/** How patient to be with a bucket. */
export interface BucketTimeouts {
  /** Milliseconds it may take to answer a call, retries included, and to send more of an object. */
  answerMs: number;
  /** Milliseconds the removal of an object may take: many are removed one after another, and tried again later. */
  removeMs: number;
}

const TIMEOUTS: BucketTimeouts = { answerMs: 60_000, removeMs: 10_000 };

/** Bytes of a part of a multipart upload, S3's least; up to 10,000 of them make an object. One is in memory at a time. */
const PART_BYTES = 5 * 1024 * 1024;

/** An object's address, taken apart. */
interface Place {
  bucket: string;
  key: string;
  endpoint: string | undefined;
  region: string | undefined;
}

/**
 * S3-compatible buckets. An object's address is `s3://bucket/key`, with the query parameters `endpoint` and `region`
 * where they are not AWS's own: it stands with the file, so that a file is found however the setting changes.
 * Credentials are those of AWS's own variables, files and instance roles.
 */
export class Buckets {
  readonly #url: string | undefined;
  /** One for each endpoint and region. The library is loaded with the first: it takes as long as all the rest. */
  readonly #clients = new Map<string, Promise<S3Client>>();
  readonly #timeouts: BucketTimeouts;
  readonly #closed = new AbortController();

  /** `url` is where new files go, such as `s3://bucket/prefix?endpoint=http://minio:9000`; undefined: into the database. */
  constructor(url: string | undefined, timeouts = TIMEOUTS) {
    this.#url = url;
    this.#timeouts = timeouts;
  }

  /** The address of a new file's object; null when new files go into the database. */
  placeObject(id: string): string | null {
    if (this.#url === undefined) return null;
    const [path = "", query] = this.#url.split("?", 2);
    const address = `${path.replace(/\/$/, "")}/${id}`;
    return query === undefined ? address : `${address}?${query}`;
  }

  /** Writes an object; nothing remains of it when `content` throws. */
  async write(objectUrl: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const { bucket, key, ...place } = parseAddress(objectUrl);
    const { Upload } = await import("@aws-sdk/lib-storage");
    let failed: { error: unknown } | undefined;
    const body = Readable.from(
      (async function* () {
        try {
          yield* content;
        } catch (error) {
          failed = { error };
          throw error;
        }
      })(),
    );
    try {
      const upload = new Upload({
        client: this.#limitCalls(await this.#client(place), signal),
        params: { Bucket: bucket, Key: key, Body: body },
        partSize: PART_BYTES,
        queueSize: 1,
      });
      await upload.done();
    } catch (error) {
      if (failed !== undefined) throw failed.error;
      signal.throwIfAborted();
      throw away(error);
    } finally {
      body.destroy();
    }
  }

  /** Reads bytes of an object. */
  async *read(
    objectUrl: string,
    { offset, length }: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const { bucket, key, ...place } = parseAddress(objectUrl);
    const { GetObjectCommand } = await import("@aws-sdk/client-s3");
    const client = await this.#client(place);
    const stalled = new AbortController();
    const abortSignal = AbortSignal.any([signal, this.#closed.signal, stalled.signal]);
    // Not a timeout of the socket, on which nothing comes either while who asked for the bytes is slow to take them.
    const wait = async <T>(answer: Promise<T>): Promise<T> => {
      const timer = setTimeout(() => stalled.abort(), this.#timeouts.answerMs);
      return answer.finally(() => clearTimeout(timer));
    };
    let got = 0;
    try {
      const range = `bytes=${offset}-${offset + length - 1}`;
      const command = new GetObjectCommand({ Bucket: bucket, Key: key, Range: range });
      const { Body: body } = await wait(client.send(command, { abortSignal }));
      for await (const chunk of takeEach(body as Readable, wait)) {
        got += chunk.length;
        yield chunk;
      }
    } catch (error) {
      signal.throwIfAborted();
      throw away(error);
    }
    if (got !== length) throw away(new Error(`${objectUrl}: ${got} bytes came instead of ${length}`));
  }

  /** Removes an object, and what broken uploads to it have left; no error when there is nothing, not even the bucket. */
  async remove(objectUrl: string, signal?: AbortSignal): Promise<void> {
    const { bucket: Bucket, key: Key, ...place } = parseAddress(objectUrl);
    const { AbortMultipartUploadCommand, DeleteObjectCommand, ListMultipartUploadsCommand } =
      await import("@aws-sdk/client-s3");
    const client = await this.#client(place);
    const options = { abortSignal: this.#limit(this.#timeouts.removeMs, signal) };
    try {
      const list = new ListMultipartUploadsCommand({ Bucket, Prefix: Key });
      const { Uploads = [] } = await client.send(list, options);
      for (const { UploadId } of Uploads)
        await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), options);
      await client.send(new DeleteObjectCommand({ Bucket, Key }), options);
    } catch (error) {
      if ((error as Error).name !== "NoSuchBucket") throw away(error);
    }
  }

  /** Ends the calls under way, and closes the connections. */
  async close(): Promise<void> {
    this.#closed.abort();
    for (const client of this.#clients.values()) (await client).destroy();
    this.#clients.clear();
  }

  /** Aborts with `signal`, when the time is up, and with `close`. */
  #limit(timeoutMs: number, signal?: AbortSignal): AbortSignal {
    const signals = [this.#closed.signal, AbortSignal.timeout(timeoutMs)];
    return AbortSignal.any(signal === undefined ? signals : [...signals, signal]);
  }

  /** The same client, with a limit to each call: lib-storage sets none, and leaves those under way when it is aborted. */
  #limitCalls(client: S3Client, signal: AbortSignal): S3Client {
    const send = (command: Parameters<S3Client["send"]>[0]) =>
      client.send(command, { abortSignal: this.#limit(this.#timeouts.answerMs, signal) });
    return Object.create(client, { send: { value: send } }) as S3Client;
  }

  #client({ endpoint, region }: Pick<Place, "endpoint" | "region">): Promise<S3Client> {
    const name = JSON.stringify([endpoint, region]);
    let client = this.#clients.get(name);
    if (client === undefined) {
      client = createClient(endpoint, region);
      this.#clients.set(name, client);
    }
    return client;
  }
}

async function createClient(endpoint: string | undefined, region: string | undefined): Promise<S3Client> {
  const { S3Client } = await import("@aws-sdk/client-s3");
  return new S3Client({
    // Others than AWS mostly have one region, whose name does not matter, and no host name for each bucket.
    ...(endpoint !== undefined && { endpoint, forcePathStyle: true, region: "us-east-1" }),
    ...(region !== undefined && { region }),
    // Older servers refuse the checksums that AWS's clients send by default.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS },
  });
}

/** Gives out the pieces of a body, having waited for each by `wait`. */
async function* takeEach(
  body: AsyncIterable<Uint8Array>,
  wait: <T>(answer: Promise<T>) => Promise<T>,
): AsyncGenerator<Uint8Array> {
  const pieces = body[Symbol.asyncIterator]();
  try {
    for (let next = await wait(pieces.next()); next.done !== true; next = await wait(pieces.next()))
      yield next.value;
  } finally {
    await pieces.return?.();
  }
}

function parseAddress(objectUrl: string): Place {
  const { host, pathname, searchParams } = new URL(objectUrl);
  return {
    bucket: host,
    key: decodeURIComponent(pathname.slice(1)),
    endpoint: searchParams.get("endpoint") ?? undefined,
    region: searchParams.get("region") ?? undefined,
  };
}

function away(cause: unknown) {
  return unavailable("FILE_STORAGE_UNAVAILABLE", "The bucket of the files cannot be reached or refuses.", {
    retryAfterMs: 1000,
    cause,
  });
}
