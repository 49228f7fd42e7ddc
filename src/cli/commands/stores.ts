import { create } from "@bufbuild/protobuf";
import { InvalidArgumentError, type Command } from "commander";
import {
  CreateVectorStoreRequestSchema,
  DeleteVectorStoreResponseSchema,
  ExpiryAnchor,
  VectorStoreSchema,
  VectorStoreService,
  type VectorStore,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { formatBytes, formatTime, printJson, printTable } from "../output.ts";
import { addReembed } from "./reembed.ts";

/** Stores of a page. */
const PAGE = 100;

interface CreateOptions {
  id?: string;
  expiresAfterDays?: number;
  dimensions?: number;
}

/** Adds the commands that list, show, create, embed again and delete stores. */
export function addStores(program: Command): void {
  const stores = program
    .command("stores")
    .description("list, show, create, embed again and delete vector stores");
  const open = () => {
    const options = program.opts<GlobalOptions>();
    return { client: new Connection(options).client(VectorStoreService), isJson: options.json === true };
  };
  stores
    .command("list")
    .description("list all stores, the newest first")
    .action(async () => {
      const { client, isJson } = open();
      const found: VectorStore[] = [];
      let after: string | undefined;
      do {
        const page = await client.listVectorStores({ limit: PAGE, ...(after !== undefined && { after }) });
        if (isJson) for (const store of page.data) printJson(VectorStoreSchema, store);
        else found.push(...page.data);
        after = page.hasMore ? page.lastId : undefined;
      } while (after !== undefined);
      if (!isJson) show(found);
    });
  stores
    .command("show <id>")
    .description("show a store")
    .action(async (id: string) => {
      const { client, isJson } = open();
      const store = await client.getVectorStore({ vectorStoreId: id });
      if (isJson) printJson(VectorStoreSchema, store);
      else show([store]);
    });
  stores
    .command("create [name]")
    .description("create a store, and print its id")
    .option("--id <id>", "the id; default: a generated one")
    .option("--dimensions <n>", "dimensions of its vectors; default: those of the first one", readCount)
    .option("--expires-after-days <n>", "delete it when it was not used for so long", readCount)
    .action(async (name: string | undefined, { id, dimensions, expiresAfterDays }: CreateOptions) => {
      const { client, isJson } = open();
      const request = create(CreateVectorStoreRequestSchema, {
        ...(name !== undefined && { name }),
        ...(id !== undefined && { id }),
        ...(dimensions !== undefined && { dimensions }),
        ...(expiresAfterDays !== undefined && {
          expiresAfter: { anchor: ExpiryAnchor.LAST_ACTIVE_AT, days: expiresAfterDays },
        }),
      });
      const store = await client.createVectorStore(request);
      if (isJson) printJson(VectorStoreSchema, store);
      else process.stdout.write(`${store.id}\n`);
    });
  stores
    .command("delete <id>")
    .description("delete a store with all its embeddings, immediately and for good")
    .action(async (id: string) => {
      const { client, isJson } = open();
      const reply = await client.deleteVectorStore({ vectorStoreId: id });
      if (isJson) printJson(DeleteVectorStoreResponseSchema, reply);
      else process.stdout.write(`${reply.id} is deleted\n`);
    });
  addReembed(program, stores);
}

function show(stores: readonly VectorStore[]): void {
  printTable(
    ["ID", "NAME", "FILES", "BYTES", "CREATED", "USED", "EXPIRES"],
    stores.map((store) => [
      store.id,
      store.name ?? "",
      Number(store.fileCounts?.total ?? 0),
      formatBytes(Number(store.usageBytes)),
      formatTime(store.createdAt),
      formatTime(store.lastActiveAt),
      formatTime(store.expiresAt),
    ]),
  );
}

/** Reads a positive whole number. */
export function readCount(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1)
    throw new InvalidArgumentError("It must be a whole number, from 1.");
  return number;
}
