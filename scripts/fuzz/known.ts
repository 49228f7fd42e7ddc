import type { Random } from "../crash/random.ts";

/** The length of the vectors of all stores that `renew` makes. */
export const DIMENSIONS = 8;

/** How many stores are remembered: the newest ones, since requests delete what older ones name. */
const STORES_MAX = 12;

/** Ids of things that belong together, by the name of the request field that takes them. */
export type Ids = ReadonlyMap<string, string>;

/** Stores with rows and a file, that exist or did a moment ago. */
export class Known {
  readonly #stores: Ids[] = [];
  readonly #address: string;

  constructor(address: string) {
    this.#address = address;
  }

  /** The ids of one store and what is in it. */
  pick(random: Random): Ids {
    return random.pick(this.#stores);
  }

  /**
   * Makes a store with three rows and a file, so that valid requests find something. Throws what the service
   * refuses.
   */
  async renew(): Promise<void> {
    const store = await this.#post("/v1/vector_stores", { dimensions: DIMENSIONS });
    const path = `/v1/vector_stores/${store}`;
    const rows = ["row-1", "row-2", "row-3"].map((id, row) => ({
      id,
      content: `${id} is red`,
      embedding: Array.from({ length: DIMENSIONS }, (_, axis) => axis + row),
      metadata: { n: row },
    }));
    await this.#post(`${path}/embeddings/batch`, { embeddings: rows });
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new Blob(["A fox and a hen."]), "tale.txt");
    const file = await this.#post("/v1/files", form);
    const next = await this.#post("/v1/files", form);
    const batch = await this.#post(`${path}/file_batches`, { file_ids: [file] });
    this.#stores.push(
      new Map([
        ["vector_store_id", store],
        ["embedding_id", "row-1"],
        ["file_id", file],
        ["new_file_id", next],
        ["batch_id", batch],
      ]),
    );
    if (this.#stores.length > STORES_MAX) this.#stores.shift();
  }

  /** Resolves to the id in the reply. */
  async #post(path: string, body: object): Promise<string> {
    const isForm = body instanceof FormData;
    const reply = await fetch(`http://${this.#address}${path}`, {
      method: "POST",
      body: isForm ? body : JSON.stringify(body),
      ...(!isForm && { headers: { "content-type": "application/json" } }),
    });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`POST ${path} was answered ${reply.status}: ${text}`);
    return String((JSON.parse(text) as { id?: string }).id);
  }
}
