import type { Random } from "../crash/random.ts";

/** The length of the vectors of all stores that `renew` makes. */
export const DIMENSIONS = 8;

/** How many ids of a kind are remembered: the newest ones, since requests delete what older ones name. */
const IDS_MAX = 12;

/** Ids that exist, or did a moment ago, by the name of the request field that takes them. */
export class Known {
  readonly #ids = new Map<string, string[]>();
  readonly #address: string;

  constructor(address: string) {
    this.#address = address;
  }

  /** An id for a field such as `vector_store_id`; undefined where no such id is known. */
  pick(field: string, random: Random): string | undefined {
    const ids = this.#ids.get(field);
    return ids === undefined ? undefined : random.pick(ids);
  }

  /** Makes a store with three rows and a file, so that valid requests find something. Throws what the service refuses. */
  async renew(): Promise<void> {
    const store = await this.#post("/v1/vector_stores", { dimensions: DIMENSIONS });
    this.#add("vector_store_id", store["id"]);
    const path = `/v1/vector_stores/${String(store["id"])}`;
    for (const id of ["row-1", "row-2", "row-3"]) {
      const embedding = Array.from({ length: DIMENSIONS }, (_, axis) => axis + id.length);
      await this.#post(`${path}/embeddings`, { id, content: `${id} is red`, embedding, metadata: { n: 1 } });
      this.#add("embedding_id", id);
    }
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new Blob(["A fox and a hen."]), "tale.txt");
    const file = await this.#post("/v1/files", form);
    this.#add("file_id", file["id"]);
    const batch = await this.#post(`${path}/file_batches`, { file_ids: [file["id"]] });
    this.#add("batch_id", batch["id"]);
  }

  async #post(path: string, body: object): Promise<Record<string, unknown>> {
    const isForm = body instanceof FormData;
    const reply = await fetch(`http://${this.#address}${path}`, {
      method: "POST",
      body: isForm ? body : JSON.stringify(body),
      ...(!isForm && { headers: { "content-type": "application/json" } }),
    });
    const text = await reply.text();
    // Another request may have deleted the store in the meantime.
    if (!reply.ok && reply.status !== 404)
      throw new Error(`POST ${path} was answered ${reply.status}: ${text}`);
    return JSON.parse(text) as Record<string, unknown>;
  }

  #add(field: string, id: unknown): void {
    if (typeof id !== "string") return;
    this.#ids.set(field, [...(this.#ids.get(field) ?? []), id].slice(-IDS_MAX));
  }
}
