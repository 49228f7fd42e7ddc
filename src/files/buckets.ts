import { Readable } from "node:stream";
import type { S3Client } from "@aws-sdk/client-s3";
import type { ByteRange } from "../api/byte-range.ts";
import { unavailable } from "../errors.ts";

/** Connection timeout of a bucket's endpoint. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Timeouts of calls to a bucket. */
export interface BucketTimeouts {
  /** Milliseconds for a call, retries included, and for the next bytes of an object that is being read. */
  answerMs: number;
  /**
   * Milliseconds for removing an object. Shorter: removals run one after another, and failed ones are
   * retried.
   */
  removeMs: number;
}

const TIMEOUTS: BucketTimeouts = { answerMs: 60_000, removeMs: 10_000 };

/**
 * Part size of a multipart upload: S3's minimum, with at most 10,000 parts. One part per upload is in memory.
 */
const PART_BYTES = 5 * 1024 * 1024;

/** The components of an object's address; undefined: AWS's own default. */
interface Place {
  bucket: string;
  key: string;
  endpoint: string | undefined;
  region: string | undefined;
}

/**
 * Objects in S3-compatible buckets. An object's address is `s3://bucket/key`, with the query parameters
 * `endpoint` and `region` where they differ from AWS's defaults. Each file's row holds its object's full
 * address, so existing files stay readable when the setting changes. Credentials come from the AWS SDK's
 * default chain: environment variables, shared files, instance roles. Errors are UNAVAILABLE with reason
 * FILE_STORAGE_UNAVAILABLE.
 */
export class Buckets {
  readonly #url: string | undefined;
  /**
   * S3 clients by endpoint and region. The AWS SDK is imported on first use: an import at start would double
   * the start-up time.
   */
  readonly #clients = new Map<string, Promise<S3Client>>();
  readonly #timeouts: BucketTimeouts;
  readonly #closed = new AbortController();

  /**
   * `url` says where new files are stored, for example `s3://bucket/prefix?endpoint=http://minio:9000`;
   * undefined: in the database.
   */
  constructor(url: string | undefined, timeouts = TIMEOUTS) {
    this.#url = url;
    this.#timeouts = timeouts;
  }

  /** Returns the object address for a new file; null when new files are stored in the database. */
  placeObject(id: string): string | null {
    if (this.#url === undefined) return null;
    const [path = "", query] = this.#url.split("?", 2);
    const address = `${path.replace(/\/$/, "")}/${id}`;
    return query === undefined ? address : `${address}?${query}`;
  }

  /**
   * Uploads an object. When `content` throws, the upload is aborted, no object is created, and its error is
   * rethrown.
   */
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

  /** Reads a byte range of an object, with backpressure. Fewer bytes than asked for are an error. */
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
    // Not a socket idle timeout: under backpressure from a slow client the socket is idle as well. This timer
    // runs only while the bucket is being waited for.
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
    if (got !== length) throw away(new Error(`${objectUrl}: ${got} bytes received instead of ${length}`));
  }

  /**
   * Deletes an object and aborts unfinished multipart uploads to its key. Idempotent: a missing object or
   * bucket is no error.
   */
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

  /** Aborts all calls in flight and closes the connections. */
  async close(): Promise<void> {
    this.#closed.abort();
    for (const client of this.#clients.values()) (await client).destroy();
    this.#clients.clear();
  }

  /** A signal that aborts with `signal`, after `timeoutMs`, and on `close`. */
  #limit(timeoutMs: number, signal?: AbortSignal): AbortSignal {
    const signals = [this.#closed.signal, AbortSignal.timeout(timeoutMs)];
    return AbortSignal.any(signal === undefined ? signals : [...signals, signal]);
  }

  /**
   * Derives a client whose calls have a timeout and an abort signal: lib-storage sets none, and an aborted
   * upload would leave its calls in flight running.
   */
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
    // S3-compatible servers mostly ignore the region's name and need path-style URLs: no host name per
    // bucket.
    ...(endpoint !== undefined && { endpoint, forcePathStyle: true, region: "us-east-1" }),
    ...(region !== undefined && { region }),
    // Older S3-compatible servers reject the CRC checksums that the AWS SDK sends by default.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS },
  });
}

/** Iterates over a body, passing each pending read to `wait`. */
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
  return unavailable("FILE_STORAGE_UNAVAILABLE", "The bucket of the files is unreachable or denies access.", {
    retryAfterMs: 1000,
    cause,
  });
}
