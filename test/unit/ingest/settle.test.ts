import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { WriteMode } from "../../../src/embeddings/upsert.ts";
import { settle, type Batch, type OnError, type PlacedRow } from "../../../src/ingest/settle.ts";
import type { RowFault } from "../../../src/ingest/ingests.ts";

/** A batch of rows with these ids; an id with "!" is a row at fault. */
function makeBatch(seq: number, ids: readonly string[]): Batch {
  const batch: Batch = { seq, rowsSeen: ids.length, rows: [], faults: [] };
  for (const [index, id] of ids.entries()) {
    if (id.includes("!"))
      batch.faults.push({ seq, index, id, code: "INVALID_VALUE", field: "x", message: "bad" });
    else batch.rows.push(makeRow(seq, index, id));
  }
  return batch;
}

function makeRow(seq: number, index: number, id: string): PlacedRow {
  const createdAt = new Date(0);
  const content = `${seq}/${index}`;
  return {
    seq,
    index,
    id,
    content,
    contentBytes: 1,
    metadata: "{}",
    vector: undefined,
    embeddingModel: null,
    createdAt,
  };
}

function settleIds(
  batches: string[],
  mode: WriteMode,
  onError: OnError,
  { taken = [] as string[], startSeq = 0 } = {},
) {
  const parsed = batches.map((ids, index) => makeBatch(startSeq + index + 1, ids.split(" ")));
  const settled = settle(parsed, mode, onError, new Set(taken), startSeq);
  const place = ({ seq, index }: RowFault | PlacedRow) => `${seq}/${index}`;
  return {
    rows: settled.rows.map((row) => `${row.id}=${place(row)}`),
    faults: settled.faults.map(place),
    counts: [settled.rowsRejected, settled.rowsReplaced, settled.rowsSkipped],
    throughSeq: settled.throughSeq,
    fatal: settled.fatal && place(settled.fatal),
  };
}

describe("insert", () => {
  test("keeps rows whose ids are new", () => {
    expect(settleIds(["a b", "c"], "insert", "abort_batch", { startSeq: 4 })).toEqual({
      rows: ["a=5/0", "b=5/1", "c=6/0"],
      faults: [],
      counts: [0, 0, 0],
      throughSeq: 6,
      fatal: undefined,
    });
  });

  test("skip_row leaves out what is at fault, repeated in the batch or the group, or taken", () => {
    const settled = settleIds(["a a! a t", "a b"], "insert", "skip_row", { taken: ["t"] });
    expect(settled).toMatchObject({
      rows: ["a=1/0", "b=2/1"],
      faults: ["1/1", "1/2", "1/3", "2/0"],
      counts: [4, 0, 0],
      throughSeq: 2,
    });
  });

  test("abort_batch leaves out the whole batch, whose ids then are free", () => {
    expect(settleIds(["a b!", "a", "c a", "d"], "insert", "abort_batch")).toMatchObject({
      rows: ["a=2/0", "d=4/0"],
      faults: ["1/1", "3/1"],
      counts: [4, 0, 0],
      throughSeq: 4,
    });
  });

  test("abort keeps the batches before, and names the first fault", () => {
    expect(settleIds(["a", "b c! d!", "e"], "insert", "abort")).toEqual({
      rows: ["a=1/0"],
      faults: [],
      counts: [0, 0, 0],
      throughSeq: 1,
      fatal: "2/1",
    });
    expect(settleIds(["a", "b a"], "insert", "abort")).toMatchObject({ rows: ["a=1/0"], fatal: "2/1" });
  });

  test("a row at fault does not take its id", () => {
    expect(settleIds(["a! a"], "insert", "skip_row").rows).toEqual(["a=1/1"]);
  });
});

test("upsert keeps the last of each id, and counts those it replaced", () => {
  expect(settleIds(["a b a", "a t"], "upsert", "skip_row", { taken: ["t"] })).toMatchObject({
    rows: ["a=2/0", "b=1/1", "t=2/1"],
    counts: [0, 2, 0],
  });
});

test("skip_existing keeps the first of each id, and counts the others", () => {
  expect(settleIds(["a b a", "a t"], "skip_existing", "skip_row", { taken: ["t"] })).toMatchObject({
    rows: ["a=1/0", "b=1/1", "t=2/1"],
    counts: [0, 0, 2],
  });
});

test("every row of every batch is counted once, and no id is written twice", () => {
  const ids = fc.array(fc.constantFrom("a", "b", "c", "d", "e!", "t"), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(
      fc.array(ids, { minLength: 1, maxLength: 6 }),
      fc.constantFrom<WriteMode>("insert", "upsert", "skip_existing"),
      fc.constantFrom<OnError>("abort_batch", "skip_row"),
      (all, mode, onError) => {
        const batches = all.map((part, index) => makeBatch(index + 1, part));
        const settled = settle(batches, mode, onError, new Set(["t"]), 0);
        const { rows, rowsRejected, rowsReplaced, rowsSkipped } = settled;
        expect(rows.length + rowsRejected + rowsReplaced + rowsSkipped).toBe(all.flat().length);
        expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
        const places = settled.faults.map(({ seq, index }) => seq * 100 + index);
        expect(places).toEqual(places.toSorted((a, b) => a - b));
      },
    ),
  );
});
