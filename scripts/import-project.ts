import { createInterface } from "node:readline/promises";
import { Readable } from "node:stream";

const USAGE = `Loads an export of a project into the project of a key, by the service's API.

  curl "$URL/v1/organization/projects/proj_…/export" -H "Authorization: Bearer $ADMIN_KEY" > project.ndjson
  PGQUIVER_KEY=pgq_… node scripts/import-project.ts "$URL" < project.ndjson

Stores keep their ids, rows their ids, texts, vectors, metadata and times. Files get new ids and are processed
again, so their chunks are embedded anew. What is there already is left alone: a load that was broken off can be repeated,
but for the files, which are then uploaded twice.
`;

/** Lines that were read ahead: the next one tells whether the last file or store goes on. */
class Items {
  readonly #lines: AsyncIterator<string>;
  #next: Json | undefined;

  constructor(input: Readable) {
    this.#lines = createInterface({ input })[Symbol.asyncIterator]();
  }

  /** The next item, which stays the next one; undefined: there is none. */
  async peek(): Promise<Json | undefined> {
    if (this.#next !== undefined) return this.#next;
    const { done, value } = await this.#lines.next();
    this.#next = done === true ? undefined : (JSON.parse(value) as Json);
    return this.#next;
  }

  /** Takes the next items as long as they are of this kind. */
  async *take(kind: string): AsyncGenerator<Json> {
    for (let item = await this.peek(); item?.[kind] !== undefined; item = await this.peek()) {
      this.#next = undefined;
      yield item[kind] as Json;
    }
  }
}

type Json = Record<string, unknown>;

class Importer {
  readonly #url: string;
  readonly #key: string;
  /** New ids of files by those of the export. */
  readonly #files = new Map<string, string>();

  constructor(url: string, key: string) {
    this.#url = url;
    this.#key = key;
  }

  /** Loads all items; throws when the export has no end. */
  async load(items: Items): Promise<Json> {
    for await (const _ of items.take("project")) continue;
    for await (const file of items.take("file")) await this.#loadFile(items, file as Record<string, string>);
    for await (const store of items.take("vector_store")) await this.#loadStore(items, store);
    for await (const end of items.take("end")) return end;
    throw new Error("The export is incomplete: its last line is not 'end'.");
  }

  async #loadFile(items: Items, { id, filename, purpose }: Record<string, string>): Promise<void> {
    const boundary = "a-boundary-of-pgquiver";
    async function* body() {
      yield `--${boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n${purpose}\r\n`;
      yield `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename=${JSON.stringify(filename)}\r\n\r\n`;
      for await (const data of items.take("file_data"))
        yield Buffer.from(data as unknown as string, "base64");
      yield `\r\n--${boundary}--\r\n`;
    }
    const type = `multipart/form-data; boundary=${boundary}`;
    const file = await this.#send("/v1/files", Readable.from(body(), { objectMode: false }), type);
    this.#files.set(id as string, file["id"] as string);
  }

  async #loadStore(items: Items, store: Json): Promise<void> {
    const {
      id,
      name,
      description,
      metadata,
      expires_after,
      dimensions,
      precision,
      language,
      restrict_readers,
    } = store;
    const asked = {
      id,
      name,
      description,
      metadata,
      expires_after,
      dimensions,
      precision,
      language,
      restrict_readers,
    };
    const given = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== null));
    await this.#send("/v1/vector_stores", JSON.stringify(given)).catch((error: unknown) => {
      if (!(error instanceof Error && error.message.includes("already exists"))) throw error;
    });
    const path = `/v1/vector_stores/${id as string}`;
    for await (const { id: fileId, attributes, chunking_strategy: chunking } of items.take(
      "vector_store_file",
    )) {
      // Chunks counted in characters are "other" to OpenAI's API, which takes no such value.
      const strategy =
        (chunking as Json | null)?.["type"] === "static" ? { chunking_strategy: chunking } : {};
      const attached = { file_id: this.#files.get(fileId as string), attributes, ...strategy };
      await this.#send(`${path}/files`, JSON.stringify(attached));
    }
    async function* rows() {
      for await (const { file_id: fileId, ...row } of items.take("row"))
        if (fileId === null) yield `${JSON.stringify(row)}\n`;
    }
    const body = Readable.from(rows(), { objectMode: false });
    const loaded = await this.#send(
      `${path}/embeddings/ingest?mode=skip_existing`,
      body,
      "application/x-ndjson",
    );
    if (Number(loaded["rows_rejected"]) > 0) throw new Error(`${path}: ${JSON.stringify(loaded)}`);
  }

  async #send(path: string, body: string | Readable, type = "application/json"): Promise<Json> {
    const response = await fetch(`${this.#url}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.#key}`, "content-type": type },
      body: typeof body === "string" ? body : (Readable.toWeb(body) as ReadableStream),
      duplex: "half",
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as Json;
  }
}

const [url] = process.argv.slice(2);
const key = process.env["PGQUIVER_KEY"];
if (url === undefined || key === undefined) {
  process.stderr.write(USAGE);
  process.exit(1);
}
const end = await new Importer(url, key).load(new Items(process.stdin));
process.stdout.write(`${JSON.stringify(end)}\n`);
