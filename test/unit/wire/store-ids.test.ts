import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { IngestRequestSchema, IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { findStoreIds } from "../../../src/wire/store-ids.ts";

const owner = { project: "default", storeIds: undefined };

test("a message of a stream without an id does not wait for the aliases, as one with an id does", async () => {
  const aliases = Promise.withResolvers<ReadonlyMap<string, string>>();
  const { receive } = findStoreIds(IngestService.method.ingest, { of: () => aliases.promise });
  const batch = create(IngestRequestSchema, { message: { case: "batch", value: { seq: 1n } } });
  expect(receive(batch, owner)).toBe(batch);
  const open = create(IngestRequestSchema, { message: { case: "open", value: { vectorStoreId: "name" } } });
  const received = receive(open, owner);
  expect(received).toBeInstanceOf(Promise);
  aliases.resolve(new Map([["name", "store"]]));
  expect((await received).message.value).toMatchObject({ vectorStoreId: "store" });
});
