import type { JsonObject } from "@bufbuild/protobuf";
import { Document, type DocumentInterface } from "@langchain/core/documents";
import type { EmbeddingsInterface } from "@langchain/core/embeddings";
import { VectorStore } from "@langchain/core/vectorstores";
import type { Client } from "./client.ts";
import type { FilterInput, Store } from "./store.ts";

/** Which store of which service. */
export interface PgquiverVectorStoreConfig {
  client: Client;
  storeId: string;
}

/** A vector store for LangChain.js. `ensure` creates the store unless it exists. */
export class PgquiverVectorStore extends VectorStore {
  declare FilterType: FilterInput;
  readonly #store: Store;

  constructor(embeddings: EmbeddingsInterface, { client, storeId }: PgquiverVectorStoreConfig) {
    super(embeddings, { storeId });
    this.#store = client.store(storeId);
  }

  /** Makes a vector store and adds texts. */
  static override async fromTexts(
    texts: string[],
    metadatas: object[] | object,
    embeddings: EmbeddingsInterface,
    config: PgquiverVectorStoreConfig,
  ): Promise<PgquiverVectorStore> {
    const documents = texts.map((pageContent, index) => {
      const metadata = Array.isArray(metadatas) ? (metadatas as object[])[index] : metadatas;
      return new Document({ pageContent, metadata: { ...metadata } });
    });
    return PgquiverVectorStore.fromDocuments(documents, embeddings, config);
  }

  /** Makes a vector store and adds documents. */
  static override async fromDocuments(
    documents: DocumentInterface[],
    embeddings: EmbeddingsInterface,
    config: PgquiverVectorStoreConfig,
  ): Promise<PgquiverVectorStore> {
    const made = new PgquiverVectorStore(embeddings, config);
    await made.ensure();
    await made.addDocuments(documents);
    return made;
  }

  /** Names the kind of store, for LangChain's traces. */
  override _vectorstoreType(): string {
    return "pgquiver";
  }

  /** Creates the store unless it exists. */
  async ensure(): Promise<this> {
    await this.#store.ensure();
    return this;
  }

  /** Embeds documents and adds them, or replaces those whose ids exist. Returns their ids. */
  override async addDocuments(
    documents: DocumentInterface[],
    options?: { ids?: string[] },
  ): Promise<string[]> {
    const vectors = await this.embeddings.embedDocuments(documents.map(({ pageContent }) => pageContent));
    return this.addVectors(vectors, documents, options);
  }

  /** Adds documents with their vectors, or replaces those whose ids exist. Returns their ids. */
  override async addVectors(
    vectors: number[][],
    documents: DocumentInterface[],
    options: { ids?: string[] } = {},
  ): Promise<string[]> {
    const ids = documents.map(({ id }, index) => options.ids?.[index] ?? id ?? crypto.randomUUID());
    // The last document of an id wins, as in a stream: one call may not have an id twice.
    const rows = new Map(
      documents.map(({ pageContent: content, metadata }, index) => {
        const id = ids[index] as string;
        return [id, { id, content, embedding: vectors[index] ?? [], metadata: metadata as JsonObject }];
      }),
    );
    await this.#store.upsert([...rows.values()]);
    return ids;
  }

  /** Finds documents by a vector, with scores from 0 to 1; 1 is the same direction. */
  override async similaritySearchVectorWithScore(
    query: number[],
    k: number,
    filters?: this["FilterType"],
  ): Promise<[Document, number][]> {
    const found = await this.#store.search({
      embedding: query,
      limit: k,
      ...(filters !== undefined && { filters }),
    });
    return found.map(({ id, content, metadata, score }) => [
      new Document({ id, pageContent: content, metadata }),
      score,
    ]);
  }

  /** Deletes documents by id, by a filter, or all. */
  override async delete(what: { ids?: string[]; filter?: FilterInput; deleteAll?: boolean }): Promise<void> {
    if (what.ids !== undefined) await this.#store.delete(what.ids);
    if (what.filter !== undefined) await this.#store.purge(what.filter);
    if (what.deleteAll === true) await this.#store.purge("all");
  }
}
