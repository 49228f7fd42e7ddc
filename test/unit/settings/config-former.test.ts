import { describe, expect, test } from "vitest";
import { readConfig } from "../../../src/config.ts";

describe("the model before", () => {
  const provider = {
    EMBEDDING__BASE_URL: "http://new",
    EMBEDDING__API_KEY: "sk-new",
    EMBEDDING__MODEL: "new",
  };
  const read = (more: Record<string, string>) => readConfig({ ...provider, ...more }).former;

  test("is none unless it is named", () => {
    expect(readConfig(provider).former).toBeUndefined();
  });

  test("is asked at the endpoint of the new one, with its key and not its dimensions", () => {
    const former = read({
      EMBEDDING__FORMER__MODEL: "old",
      EMBEDDING__DIMENSIONS: "8",
      EMBEDDING__RETRIES: "7",
    });
    expect(former?.embedding).toMatchObject({
      model: "old",
      baseUrl: "http://new",
      apiKey: "sk-new",
      dimensions: undefined,
      retriesMax: 7,
    });
  });

  test("gets no key of another endpoint", () => {
    const own = { EMBEDDING__FORMER__MODEL: "old", EMBEDDING__FORMER__BASE_URL: "http://old" };
    expect(read(own)?.embedding).toMatchObject({ baseUrl: "http://old", apiKey: "" });
    expect(read({ ...own, EMBEDDING__FORMER__API_KEY: "sk-old" })?.embedding).toMatchObject({
      apiKey: "sk-old",
    });
  });

  test("may be a local one", () => {
    expect(read({ EMBEDDING__FORMER__MODEL: "lexical" })).toEqual({
      embedding: undefined,
      localModel: "lexical",
    });
  });

  test.each<[Record<string, string>, string]>([
    [
      { EMBEDDING__FORMER__BASE_URL: "http://old" },
      "EMBEDDING__FORMER__MODEL: needed with EMBEDDING__FORMER__BASE_URL",
    ],
    [
      { EMBEDDING__FORMER__MODEL: "lexical", EMBEDDING__FORMER__DIMENSIONS: "8" },
      "EMBEDDING__FORMER__BASE_URL: needed",
    ],
    [
      { EMBEDDING__FORMER__MODEL: "/models/old", EMBEDDING__FORMER__BASE_URL: "http://old" },
      "EMBEDDING__FORMER__MODEL: a directory",
    ],
  ])("is refused where it is half set: %j", (more, message) => {
    expect(() => read(more)).toThrow(message);
  });

  test("needs an endpoint where the new one has none", () => {
    expect(() => readConfig({ EMBEDDING__FORMER__MODEL: "old" })).toThrow(
      "EMBEDDING__FORMER__BASE_URL: needed",
    );
  });
});
