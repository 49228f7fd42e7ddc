import { expect, test } from "vitest";
import { serializeError } from "../../../src/log/error.ts";

test("every error of an AggregateError is in its message", () => {
  const error = new AggregateError([new Error("::1 refused"), new Error("127.0.0.1 refused")], "");
  expect(serializeError(error)).toMatchObject({ message: "::1 refused, 127.0.0.1 refused" });
});

test("what is thrown and no error is shown as text", () => {
  expect(serializeError("out of order")).toBe("out of order");
});

test("a chain of causes that is a circle ends", () => {
  const error = new Error("outer");
  error.cause = new Error("inner", { cause: error });
  expect(JSON.stringify(serializeError(error)).match(/"message":"outer"/g)).toHaveLength(3);
});
