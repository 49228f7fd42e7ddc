import { expect, test } from "vitest";
import type { AuditEntry } from "../../../src/api/audit.ts";
import { Refusals } from "../../../src/audit/refusals.ts";

const entry = (change: Partial<AuditEntry> = {}): AuditEntry => ({
  id: "audit_1",
  at: new Date(),
  projectId: "",
  event: "api_key.deleted",
  actorId: null,
  resourceId: null,
  data: {},
  outcome: "unauthenticated",
  count: 1,
  address: "192.0.2.1",
  forwardedFor: null,
  userAgent: "curl",
  requestId: "1",
  rpc: "pgquiver.v1.AccessService/DeleteApiKey",
  protocol: "grpc",
  ...change,
});

function open(groupsMax: number) {
  const recorded: AuditEntry[] = [];
  return { recorded, refusals: new Refusals(groupsMax, (one) => recorded.push(one)) };
}

test("the first of equal attempts is recorded at once, the others as their number", () => {
  const { recorded, refusals } = open(10);
  for (let attempt = 1; attempt <= 1_000; attempt++) refusals.add(entry({ requestId: String(attempt) }));
  expect(recorded).toEqual([expect.objectContaining({ count: 1, requestId: "1" })]);
  refusals.endWindow();
  expect(recorded[1]).toMatchObject({ count: 999, requestId: "1000", address: "192.0.2.1" });
  expect(recorded[1]?.id).not.toBe(recorded[0]?.id);
  refusals.endWindow();
  expect(recorded.length).toBe(2);
  refusals.add(entry());
  expect(recorded.length).toBe(3);
});

test("attempts that differ in who, what, from where or why are not equal", () => {
  const { recorded, refusals } = open(10);
  const changes = [
    { actorId: "key_1" },
    { event: "project.created" },
    { address: "192.0.2.2" },
    { outcome: "permission_denied" },
    { projectId: "proj_1" },
  ];
  for (const change of [{}, ...changes]) refusals.add(entry(change));
  expect(recorded.length).toBe(6);
});

test("a flood from many addresses is one entry more than the groups, and its number", () => {
  const { recorded, refusals } = open(10);
  for (let attempt = 0; attempt < 5_000; attempt++)
    refusals.add(entry({ address: `198.51.${attempt >> 8}.${attempt & 255}` }));
  refusals.endWindow();
  expect(recorded.length).toBe(12);
  expect(recorded.at(-1)).toMatchObject({ count: 4_989, address: "", userAgent: null });
  expect(recorded.reduce((sum, { count }) => sum + count, 0)).toBe(5_000);
});

test("the addresses of one IPv6 network are one caller's", () => {
  const { recorded, refusals } = open(10);
  for (let host = 0; host < 100; host++) refusals.add(entry({ address: `2001:db8:1:2::${host}` }));
  expect(recorded.length).toBe(1);
  refusals.add(entry({ address: "2001:db8:1:3::1" }));
  expect(recorded.length).toBe(2);
});
