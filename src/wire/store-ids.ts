import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { DEFAULT_PROJECT, localId, storedId, type StoreOwner } from "../store-id.ts";

/** The fields of a type of message that have ids of stores, and the fields with messages that have some. */
type Plan = readonly Step[];
interface Step {
  name: string;
  /** The oneof that the field is a member of. */
  oneof: string | undefined;
  /** Of the messages in the field; undefined: the field has an id. */
  plan: Plan | undefined;
}

/** The aliases of stores: names that stand for the ids of stores, both as callers know them. */
export interface Aliases {
  /** Returns a project's aliases, at most a second old. Rejects when they are not known and cannot be read. */
  of: (project: string) => ReadonlyMap<string, string> | Promise<ReadonlyMap<string, string>>;
}

type Json = Record<string, unknown>;

/** Converts the ids of stores in the messages of an RPC: see store-id.ts. */
export interface StoreIds {
  /** Replaces aliases, and the ids that the caller knows, by those that are stored. */
  receive: <Message>(message: Message, owner: StoreOwner) => Message | Promise<Message>;
  /** The same for a stream. */
  receiveAll: <Message>(messages: AsyncIterable<Message>, owner: StoreOwner) => AsyncIterable<Message>;
  /** Replaces the stored ids in a reply by those that the caller knows. */
  send: <Message>(message: Message, owner: StoreOwner) => Message;
}

/**
 * Finds the ids of stores in the messages of an RPC by their descriptors: every text field named `vector_store_id` is
 * one, and so is every item of a list named `vector_store_ids`. So an RPC that is added keeps projects apart without code of its own.
 */
export function findStoreIds({ input, output }: DescMethod, aliases: Aliases): StoreIds {
  const request = planOf(input, new Set());
  const reply = planOf(output, new Set());
  const receive = <Message>(message: Message, owner: StoreOwner): Message | Promise<Message> => {
    // A batch of an ingest has no id: it must not wait for a read of the aliases, for which the embedded database has no
    // connection while the ingest's transaction is open.
    if (!hasId(request, message as Json)) return message;
    // All ids of a message are resolved by one state of the aliases.
    const resolve = (stores: ReadonlyMap<string, string>) => {
      convert(request, message as Json, (id) => storedId(owner, stores.get(id) ?? id));
      return message;
    };
    const known = aliases.of(owner.project);
    return known instanceof Promise ? known.then(resolve) : resolve(known);
  };
  return {
    receive,
    receiveAll: (messages, owner) =>
      request.length === 0 ? messages : mapStream(messages, async (message) => receive(message, owner)),
    send(message, { project }) {
      if (project !== DEFAULT_PROJECT && reply.length > 0) convert(reply, message as Json, localId);
      return message;
    },
  };
}

function planOf(desc: DescMessage, above: ReadonlySet<string>): Plan {
  // A type within itself, such as a filter, has no id that was not found above.
  if (above.has(desc.typeName)) return [];
  const within = new Set(above).add(desc.typeName);
  return desc.fields.flatMap((field): Step[] => {
    const step = { name: field.localName, oneof: field.oneof?.localName };
    if (field.message !== undefined) {
      const plan = planOf(field.message, within);
      if (plan.length === 0) return [];
      if (field.fieldKind === "map") throw new Error(`${field.toString()}: a map has ids of stores`);
      return [{ ...step, plan }];
    }
    const isId = field.name === "vector_store_id" && field.fieldKind === "scalar";
    const areIds = field.name === "vector_store_ids" && field.fieldKind === "list";
    return isId || areIds ? [{ ...step, plan: undefined }] : [];
  });
}

function hasId(plan: Plan, message: Json): boolean {
  let isFound = false;
  convert(plan, message, (id) => {
    isFound = true;
    return id;
  });
  return isFound;
}

function convert(plan: Plan, message: Json, change: (id: string) => string): void {
  for (const { name, oneof, plan: inner } of plan) {
    const holder = oneof === undefined ? message : (message[oneof] as Json);
    if (oneof !== undefined && holder["case"] !== name) continue;
    const key = oneof === undefined ? name : "value";
    const value = holder[key];
    if (inner !== undefined) {
      for (const item of Array.isArray(value) ? (value as Json[]) : [value as Json | undefined])
        if (item !== undefined) convert(inner, item, change);
    } else if (Array.isArray(value)) holder[key] = (value as string[]).map(change);
    else if (typeof value === "string" && value !== "") holder[key] = change(value);
  }
}

/** Not a generator, whose `return` would wait for a read that is under way. */
function mapStream<Message>(
  messages: AsyncIterable<Message>,
  map: (message: Message) => Promise<Message>,
): AsyncIterable<Message> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = messages[Symbol.asyncIterator]();
      return {
        async next() {
          const next = await iterator.next();
          return next.done === true ? next : { done: false, value: await map(next.value) };
        },
        return: async (value?: unknown) =>
          (await iterator.return?.(value)) ?? { done: true, value: undefined as never },
      };
    },
  };
}
