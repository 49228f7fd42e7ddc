import { Readable } from "node:stream";
import type { S3Client } from "@aws-sdk/client-s3";
import { unavailable } from "../errors.ts";
import type { ByteRange } from "./parts.ts";

/** How long a bucket may take to accept a connection, and to answer. */
const CONNECT_TIMEOUT_MS = 5_000;
const ANSWER_TIMEOUT_MS = 60_000;

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

  /** `url` is where new files go, such as `s3://bucket/prefix?endpoint=http://minio:9000`; undefined: into the database. */
  constructor(url: string | undefined) {
    this.#url = url;
  }

  /** The address of a new file's object; null when new files go into the database. */
  placeObject(id: string): string | null {
    if (this.#url === undefined) return null;
    const [path = "", query] = this.#url.split("?", 2);
    const address = `${path.replace(/\/$/, "")}/${id}`;
    return query === undefined ? address : `${address}?${query}`;
  }

  /** Writes an object; nothing remains of it when `content` throws. */
  async write(objectUrl: string, content: AsyncIterable<Uint8Array>): Promise<void> {
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
        client: await this.#client(place),
        params: { Bucket: bucket, Key: key, Body: body },
        partSize: PART_BYTES,
        queueSize: 1,
      });
      await upload.done();
    } catch (error) {
      throw failed === undefined ? away(error) : failed.error;
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
    let got = 0;
    try {
      const range = `bytes=${offset}-${offset + length - 1}`;
      const command = new GetObjectCommand({ Bucket: bucket, Key: key, Range: range });
      const { Body: body } = await client.send(command, { abortSignal: signal });
      for await (const chunk of body as Readable) {
        got += (chunk as Uint8Array).length;
        yield chunk as Uint8Array;
      }
    } catch (error) {
      signal.throwIfAborted();
      throw away(error);
    }
    if (got !== length) throw away(new Error(`${objectUrl}: ${got} bytes came instead of ${length}`));
  }

  /** Removes an object, and what broken uploads to it have left; no error when there is nothing, not even the bucket. */
  async remove(objectUrl: string): Promise<void> {
    const { bucket: Bucket, key: Key, ...place } = parseAddress(objectUrl);
    const { AbortMultipartUploadCommand, DeleteObjectCommand, ListMultipartUploadsCommand } =
      await import("@aws-sdk/client-s3");
    const client = await this.#client(place);
    try {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: Key }));
      for (const { UploadId } of Uploads)
        await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }));
      await client.send(new DeleteObjectCommand({ Bucket, Key }));
    } catch (error) {
      if ((error as Error).name !== "NoSuchBucket") throw away(error);
    }
  }

  /** Closes the connections. */
  async close(): Promise<void> {
    for (const client of this.#clients.values()) (await client).destroy();
    this.#clients.clear();
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
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, requestTimeout: ANSWER_TIMEOUT_MS },
  });
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
