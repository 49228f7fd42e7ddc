import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { expect, test } from "vitest";
import { admitMessages, type MessageRules } from "../../../src/wire/grpc/admission.ts";

const BYTES_MAX = 1000;

/** A message as gRPC frames it. */
function frame(length: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(5 + length, "x");
  bytes[0] = flags;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

/** Admits everything, and keeps what was asked for and what is held. */
function ledger() {
  const book = {
    asked: [] as number[],
    held: 0,
    admit: async (bytes: number) => {
      book.asked.push(bytes);
      book.held += bytes;
      return { [Symbol.dispose]: () => void (book.held -= bytes) };
    },
  };
  return book;
}

type Book = Pick<MessageRules, "admit">;

/** The rules of a stream that opens with a message, whose messages are passed on as they are. */
function rules({ admit }: Book, bytesMax = BYTES_MAX): MessageRules {
  return { bytesMax, admit, unpack: async (flags, message) => ({ flags, message }), opening: "open" };
}

function cut(bytes: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
    bytes.subarray(index * size, (index + 1) * size),
  );
}

test("passes every byte on, and asks for each message but the first, however the bytes are cut", async () => {
  const lengths = fc.array(fc.integer({ min: 0, max: BYTES_MAX }), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(lengths, fc.integer({ min: 1, max: 700 }), async (messages, size) => {
      const bytes = Buffer.concat(messages.map((length) => frame(length)));
      const book = ledger();
      const passed = admitMessages(Readable.from(cut(bytes, size)), rules(book));
      expect(await buffer(passed)).toEqual(bytes);
      expect(book).toMatchObject({ asked: messages.slice(1), held: 0 });
    }),
  );
});

test("passes the beginning of a message on that never came", async () => {
  const bytes = Buffer.concat([frame(1), frame(2).subarray(0, 3)]);
  expect(await buffer(admitMessages(Readable.from([bytes]), rules(ledger())))).toEqual(bytes);
});

test("holds a message until more is asked for", async () => {
  const book = ledger();
  const whole = Buffer.concat([frame(1), frame(20), frame(30)]);
  const passed = admitMessages(Readable.from([whole]), rules(book));
  const held: number[] = [];
  for await (const part of passed) if (part.length > 5 || part.length === 1) held.push(book.held);
  expect(held).toEqual([0, 20, 30]);
  expect(book.held).toBe(0);
});

test("gives the memory back when the reader stops in the midst of a message", async () => {
  const book = ledger();
  const chunks = [frame(1), frame(20).subarray(0, 10)];
  for await (const part of admitMessages(Readable.from(chunks), rules(book)))
    if (book.held === 20 && part.length > 1) break;
  expect(book).toMatchObject({ asked: [20], held: 0 });
});

test("asks for the largest message when one is compressed, and for none that is too large", async () => {
  const book = ledger();
  const chunks = [frame(1), frame(20, 1), frame(BYTES_MAX + 1)];
  await expect(buffer(admitMessages(Readable.from(chunks), rules(book)))).rejects.toThrow("1001 bytes");
  expect(book.asked).toEqual([BYTES_MAX]);
});

test("refuses a first message that is too large to be one", async () => {
  const passed = admitMessages(Readable.from([frame(100_000)]), rules(ledger(), 1_000_000));
  await expect(buffer(passed)).rejects.toThrow("Missing required parameter: 'open'.");
});
