import { join } from "node:path";
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { findBarriers, hasBrowser, isTooWide, openPage } from "../../support/clients/browser.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startServer, type TestServer } from "../../support/servers/server.ts";

async function open(server: TestServer) {
  const browser = await openPage(new URL(server.url).origin);
  browser.page.setDefaultTimeout(60_000);
  return browser;
}

/** A folder for pictures of what is tested, to look at. */
const PICTURES = process.env["CONSOLE_SETTINGS_PICTURES"];

async function picture(page: Page, name: string): Promise<void> {
  if (PICTURES !== undefined)
    await page.screenshot({ path: join(PICTURES, `${name}.png`), animations: "disabled" });
}

/** Checks that the page fits a telephone. */
async function expectNarrow(page: Page, name: string): Promise<void> {
  await picture(page, name);
  await page.setViewportSize({ width: 360, height: 740 });
  await picture(page, `${name}-360`);
  expect(await isTooWide(page)).toBe(false);
  await page.setViewportSize({ width: 1280, height: 900 });
}

describe.runIf(hasBrowser)("in a browser (where chromium is installed)", () => {
  test("the settings of an index are changed: its recall, its words, its attributes", async () => {
    await using server = await startServer({ indexes: { isWorking: true }, indexPollMs: 100 });
    const id = "settings";
    const send = jsonClient(server.url);
    await send("POST", "/v1/vector_stores", { id });
    const embeddings = [0, 1, 2].map((n) => ({
      content: `note ${n}`,
      embedding: [n, 1],
      metadata: { year: n },
    }));
    await send("POST", `/v1/vector_stores/${id}/embeddings/batch`, { embeddings });
    await using browser = await open(server);
    const { page, faults } = browser;
    await page.goto(`${server.url}/#/stores/${id}/index`);
    await page.getByLabel("Target recall").fill("0.9");
    await page.getByLabel("Index of words").selectOption("not kept");
    await page.getByRole("button", { name: "Add attribute" }).press("Enter");
    await page.getByLabel("Attribute", { exact: true }).fill("year");
    await page.getByRole("button", { name: "Add attribute" }).click();
    await page.getByLabel("Attribute", { exact: true }).last().fill("topic");
    await page.getByLabel("Type").last().selectOption("texts, dates");
    expect(await findBarriers(page)).toEqual([]);
    await expectNarrow(page, "index");
    await page.getByRole("button", { name: "Save settings" }).click();
    const indexes = page.getByRole("list", { name: "Indexes of attributes" });
    await indexes.getByText("topic").waitFor();
    const read = async () => (await send("GET", `/v1/vector_stores/${id}/index`)).json;
    expect(await read()).toMatchObject({
      target_recall: 0.9,
      keyword_index: false,
      attribute_indexes: [
        { key: "year", type: "number", state: "waiting" },
        { key: "topic", type: "string", state: "waiting" },
      ],
    });
    // The form begins with what was saved, and the page watches the indexes that a table of the store's own gets.
    await page.reload();
    await page.getByRole("button", { name: "Remove year" }).click();
    await page.getByLabel("Policy").selectOption({ label: "always" });
    await page.getByRole("button", { name: "Save settings" }).click();
    await indexes.getByText("year").waitFor({ state: "hidden" });
    await indexes.getByText("ready").waitFor();
    expect(await read()).toMatchObject({
      state: "ready",
      keyword_index: false,
      attribute_indexes: [{ key: "topic", type: "string", state: "ready" }],
    });
    await page.reload();
    await page.getByText("Cannot be changed").waitFor();
    expect(await page.getByLabel("Index of words").isDisabled()).toBe(true);
    expect(await page.getByLabel("Index of words").inputValue()).toBe("false");
    expect(faults).toEqual([]);
  });

  test("a store is embedded again: watched, cancelled, and completed", async () => {
    await using provider = await startEmbeddingServer({ dimensions: 16 });
    await using other = await startServer({
      embedder: embedderAt(provider.url, { model: "new", dimensions: 16 }),
      indexes: { isWorking: true },
      indexPollMs: 100,
    });
    const send = jsonClient(other.url);
    await send("POST", "/v1/vector_stores", { id: "given", name: "Given vectors" });
    const embeddings = ["Roses", "Tulips"].map((content, n) => ({ content, embedding: [n, 1] }));
    await send("POST", "/v1/vector_stores/given/embeddings/batch", { embeddings });
    const gate = Promise.withResolvers<void>();
    provider.next({ until: gate.promise });
    await using browser = await open(other);
    const { page, faults } = browser;
    await page.goto(`${other.url}/#/stores/given/model`);
    await page.getByText("Never embedded again").waitFor();
    await page.getByRole("button", { name: "Embed again" }).press("Enter");
    await page.getByRole("dialog").getByText("All 2 texts are embedded with “new”").waitFor();
    expect(await findBarriers(page)).toEqual([]);
    await page.getByRole("dialog").getByRole("button", { name: "Embed again" }).press("Enter");
    const state = page.getByRole("region", { name: "Re-embedding" });
    await state.getByText("in progress").waitFor();
    await state.getByText("0 of 2 rows").waitFor();
    const model = page.getByRole("region", { name: "Model" });
    expect(await model.getByRole("button", { name: "Embed again" }).isDisabled()).toBe(true);
    await provider.received(1);
    expect(await findBarriers(page)).toEqual([]);
    await expectNarrow(page, "model");
    await page.getByRole("button", { name: "Cancel re-embedding" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "End it" }).click();
    await state.getByText("cancelled").waitFor();
    gate.resolve();
    await page.getByRole("button", { name: "Embed again" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Embed again" }).click();
    // The page follows to the end, and is not loaded again: the store's own facts change too.
    await state.getByText("completed").waitFor();
    await state.getByText("new, 16 dimensions").waitFor();
    // Of the store, and of the service.
    await expect.poll(() => model.getByText("new", { exact: true }).count()).toBe(2);
    await page.locator(".facts", { hasText: "Embeddings" }).getByText("16", { exact: true }).waitFor();
    expect(faults).toEqual([]);
  });

  test("another project is chosen, its key asked for once, and nothing of the first one shown", async () => {
    await using own = await startServer({ apiKeys: ["a-key-of-16-chars"] });
    const send = jsonClient(own.url, "a-key-of-16-chars");
    await send("POST", "/v1/vector_stores", { name: "Shared handbook" });
    const { json: project } = await send("POST", "/v1/organization/projects", { name: "Search team" });
    const scopes = ["stores.read"];
    const keys = `/v1/organization/projects/${String(project["id"])}/api_keys`;
    const { json: made } = await send("POST", keys, { name: "reader", scopes });
    await using browser = await open(own);
    const { page, faults } = browser;
    const giveKey = async (key: string) => {
      await page.getByLabel("Key", { exact: true }).fill(key);
      await page.getByRole("button", { name: "Use key" }).click();
    };
    await page.goto(own.url);
    await giveKey("a-key-of-16-chars");
    await page.getByText("Shared handbook").waitFor();
    const picker = page.getByRole("combobox", { name: "Project" });
    await picker.selectOption("Search team");
    await page.getByRole("dialog").getByText("give a key of “Search team”").waitFor();
    // Until the service has taken a key of it, the project is the one before.
    expect(await picker.inputValue()).toBe("default");
    await giveKey(String(made["value"]));
    await page.getByText("No stores yet").waitFor();
    await page.getByText("Shared handbook").waitFor({ state: "hidden" });
    const selected = () => picker.locator("option:checked").textContent();
    await expect.poll(selected).toBe("Search team");
    for (const dark of [false, true]) {
      if (dark) await page.getByRole("button", { name: "Dark colours" }).click();
      expect(await findBarriers(page)).toEqual([]);
    }
    await expectNarrow(page, "project");
    // The key of the other project may not list projects; the one before is known from this tab.
    await picker.selectOption("Default project");
    await page.getByText("Shared handbook").waitFor();
    await picker.selectOption("Search team");
    await page.getByText("No stores yet").waitFor();
    expect(await page.getByRole("dialog").count()).toBe(0);
    expect(faults.filter((fault) => !fault.includes("401"))).toEqual([]);
  });
});
