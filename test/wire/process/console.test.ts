import { mkdirSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Page } from "playwright-core";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { findBarriers, hasBrowser, isTooWide, openPage } from "../../support/clients/browser.ts";
import { ROOT } from "../../support/servers/process.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer({ indexes: { isWorking: true }, indexPollMs: 100 });
const guarded = await startServer({ database: server.database, apiKeys: ["a-key-of-16-chars"] });
afterAll(async () => {
  for (const one of [guarded, server]) await one[Symbol.asyncDispose]();
});

/** Set: the pictures of the documentation are made anew. */
const PICTURES = process.env["CONSOLE_PICTURES"] === undefined ? undefined : join(ROOT, "docs/images");

async function picture(page: Page, name: string): Promise<void> {
  if (PICTURES === undefined) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(PICTURES, `${name}.png`), animations: "disabled" });
}

async function open() {
  const browser = await openPage(new URL(server.url).origin);
  onTestFinished(() => browser[Symbol.asyncDispose]());
  browser.page.setDefaultTimeout(60_000);
  return browser;
}

async function post(path: string, body: unknown): Promise<{ id: string }> {
  const reply = await fetch(`${server.url}/v1/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!reply.ok) throw new Error(await reply.text());
  return (await reply.json()) as { id: string };
}

const TOPICS = {
  gardens: ["Roses need pruning in late winter", "Compost feeds tomatoes", "Tulips are planted in autumn"],
  databases: ["An index speeds up a query", "Vacuum removes dead rows", "A replica follows the primary"],
  music: ["The cello plays the bass line", "A fugue has several voices", "The choir sings without a score"],
};

async function fill(name: string, rows: number): Promise<string> {
  const { id } = await post("vector_stores", { name, metadata: { team: "docs" } });
  const embeddings = Array.from({ length: rows }, (_, index) => {
    const topics = Object.entries(TOPICS);
    const [topic, texts] = topics[index % topics.length] as [string, string[]];
    const text = texts[Math.floor(index / topics.length) % texts.length] as string;
    return {
      content: `${text}. Note ${index} about ${topic}.`,
      metadata: { topic, year: 2020 + (index % 6) },
    };
  });
  await post(`vector_stores/${id}/embeddings/batch`, { embeddings });
  return id;
}

describe("the files of the console", () => {
  test("are served without a key, under a strict policy, compressed, and asked for once", async () => {
    const page = await fetch(guarded.url);
    const html = await page.text();
    expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(page.headers.get("cache-control")).toBe("no-cache");
    expect(page.headers.get("x-content-type-options")).toBe("nosniff");
    const policy = String(page.headers.get("content-security-policy"));
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain("unsafe");
    expect(policy).not.toContain("http");
    const assets = Array.from(html.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g), ([, path]) => path);
    expect(assets.length).toBeGreaterThanOrEqual(3);
    let bytes = 0;
    for (const path of assets) {
      const asset = await fetch(`${guarded.url}/${path}`, { method: "HEAD" });
      expect(asset.status).toBe(200);
      expect(asset.headers.get("cache-control")).toContain("immutable");
      expect(asset.headers.get("content-encoding")).toBe("gzip");
      bytes += Number(asset.headers.get("content-length"));
      const tag = String(asset.headers.get("etag"));
      const again = await fetch(`${guarded.url}/${path}`, { headers: { "if-none-match": tag } });
      expect(again.status).toBe(304);
    }
    expect(bytes).toBeGreaterThan(10_000);
    expect(bytes).toBeLessThan(150_000);
  });

  test("leave the other paths as they were", async () => {
    const sent = request(`${server.url}/`, { method: "POST" }).end();
    const [reply] = (await once(sent, "response")) as [IncomingMessage];
    expect(reply.resume().statusCode).toBe(404);
    expect((await fetch(`${server.url}/assets/none.js`)).status).toBe(404);
    expect((await fetch(`${server.url}/assets/..%2findex.html`)).status).toBe(404);
  });
});

describe.runIf(hasBrowser)("in a browser (where chromium is installed)", () => {
  test("a store is created, filled, searched, edited and deleted", async () => {
    const { page, faults } = await open();
    await page.goto(server.url);
    await page.getByRole("button", { name: "New store" }).click();
    await page.getByLabel("Name").fill("Handbook");
    await page.getByRole("button", { name: "Create", exact: true }).click();
    await page.getByRole("heading", { name: "Handbook" }).waitFor();

    await page.getByRole("link", { name: "files" }).click();
    await page.locator(".drop").waitFor();
    await page.evaluate(`{
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["# Roses\\n\\nPrune the roses in late winter."], "roses.md"));
      document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }`);
    await page.locator(".results", { hasText: "roses.md" }).waitFor();
    await page.locator(".results .badge.good", { hasText: "completed" }).waitFor();
    await page.getByLabel(/^New version of file-/).setInputFiles({
      name: "roses-2.md",
      mimeType: "text/markdown",
      buffer: Buffer.from("# Roses\n\nPrune the roses in early spring."),
    });
    await page.locator(".results", { hasText: "roses-2.md" }).waitFor();
    await page.locator(".results", { hasText: "roses.md" }).waitFor({ state: "hidden" });

    await page.getByRole("link", { name: "embeddings" }).click();
    await page.getByRole("button", { name: "Add embedding" }).click();
    await page.getByLabel("Text").fill("Compost feeds tomatoes");
    await page.getByLabel("Metadata").fill('{"topic": "gardens"}');
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("topic: gardens").waitFor();

    await page.getByRole("link", { name: "search" }).click();
    await page.getByLabel("Text or vector").fill("roses tomatoes");
    await page.getByRole("button", { name: "Search" }).click();
    await page.locator("mark", { hasText: "roses" }).first().waitFor();
    await page.getByText("2 results").waitFor();
    await page.getByText("exact", { exact: true }).locator("visible=true").first().waitFor();
    await page.getByRole("button", { name: "Add condition" }).click();
    await page.getByLabel("Key", { exact: true }).fill("topic");
    await page.getByLabel("Value").fill("gardens");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByText("1 results").waitFor();
    await page.getByRole("button", { name: "Add condition" }).click();
    await page.getByLabel("Key", { exact: true }).last().fill("topic");
    await page.getByLabel("Operator").last().selectOption({ label: "exists" });
    await page.getByLabel("Value").last().fill("false");
    await page.getByLabel("Join").selectOption("any");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByText("2 results").waitFor();

    await page.getByRole("link", { name: "embeddings" }).click();
    await page.locator(".card", { hasText: "Compost" }).getByRole("button", { name: /^Edit/ }).click();
    await page.getByLabel("Text").fill("Manure feeds tomatoes");
    await page.getByRole("button", { name: "Save" }).click();
    await page.locator(".results", { hasText: "Manure feeds tomatoes" }).waitFor();
    await page
      .locator(".card", { hasText: "Manure" })
      .getByRole("button", { name: /^Delete/ })
      .click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await page.locator(".results", { hasText: "Manure" }).waitFor({ state: "hidden" });

    await page.getByRole("button", { name: "Edit", exact: true }).click();
    expect(await findBarriers(page)).toEqual([]);
    await page.getByLabel("Name").fill("Garden handbook");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("heading", { name: "Garden handbook" }).waitFor();
    await page.getByRole("button", { name: "Delete store" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await page.getByRole("heading", { name: "Stores" }).waitFor();
    await page.getByText("Garden handbook").waitFor({ state: "hidden" });
    expect(faults).toEqual([]);
  });

  test("the build of an index is watched until searches use it, and so is an ingest", async () => {
    const id = await fill("Scratch", 60);
    const rows = `${JSON.stringify({ id: "a", content: "one row" })}\n`;
    const headers = { "content-type": "application/x-ndjson", "idempotency-key": "import-1" };
    await fetch(`${server.url}/v1/vector_stores/${id}/embeddings/ingest`, {
      method: "POST",
      headers,
      body: rows,
    });
    const { page, faults } = await open();
    await page.goto(`${server.url}/#/stores/${id}/index`);
    await page.getByRole("region", { name: "State" }).getByText("none").waitFor();
    await page.getByLabel("Policy").selectOption({ label: "always" });
    await page.getByRole("button", { name: "Save settings" }).click();
    // The page watches the build, and is not loaded again.
    await page.getByRole("region", { name: "State" }).getByText("ready").waitFor();
    await page.getByText("index: ready").waitFor();
    await page.getByRole("link", { name: "search" }).click();
    await page.getByLabel("Text or vector").fill("roses");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByRole("region", { name: "Results" }).getByText("index", { exact: true }).waitFor();
    expect(await findBarriers(page)).toEqual([]);
    await page.getByRole("link", { name: "ingests" }).click();
    await page.getByRole("button", { name: "Show import-1" }).click();
    await page.getByRole("region", { name: "Ingest", exact: true }).getByText("completed").waitFor();
    expect(faults).toEqual([]);
  });

  test("every page has no serious barrier, fits 360 px, in light and dark", async () => {
    const id = await fill("Field notes", 120);
    await fill("Product handbook", 30);
    const { page, faults } = await open();
    const pages = {
      stores: () => page.getByText("Product handbook").first(),
      [`stores/${id}/search`]: () => page.getByText("Nothing searched yet"),
      [`stores/${id}/embeddings`]: () => page.getByText("Note 119"),
      [`stores/${id}/files`]: () => page.getByText("No files"),
      [`stores/${id}/index`]: () => page.getByText("Target recall"),
      [`stores/${id}/model`]: () => page.getByText("Never embedded again"),
      [`stores/${id}/ingests`]: () => page.getByText("No ingests"),
      [`stores/${id}/map`]: () => page.getByText("120 of 120 vectors"),
      diagnostics: () => page.locator(".results .badge").first(),
      metrics: () => page.getByRole("region", { name: "Requests" }).getByText("/s"),
    };
    await page.goto(server.url);
    for (const dark of [false, true]) {
      for (const [path, shown] of Object.entries(pages)) {
        await page.setViewportSize({ width: 1280, height: 900 });
        await page.goto(`${server.url}/#/${path}`);
        await shown().waitFor();
        expect(await findBarriers(page), path).toEqual([]);
        await page.setViewportSize({ width: 360, height: 740 });
        expect(await isTooWide(page), `${path} at 360 px`).toBe(false);
      }
      if (!dark) await page.getByRole("button", { name: "Dark colours" }).click();
    }
    const background = await page.evaluate("getComputedStyle(document.body).backgroundColor");
    expect(background).toBe("rgb(13, 20, 20)");
    expect(faults).toEqual([]);
  });

  test("what takes long says how far it is, and the current tab is in sight at 360 px", async () => {
    const id = await fill("Field notes", 120);
    const { page, faults } = await open();
    const { promise: seen, resolve: goOn } = Promise.withResolvers<void>();
    await page.route(/QueryEmbeddings|Diagnose/, (route) => seen.then(() => route.continue()));
    await page.setViewportSize({ width: 360, height: 740 });
    await page.goto(`${server.url}/#/diagnostics`);
    await page.getByText("Checking…").waitFor();
    await page.goto(`${server.url}/#/stores/${id}/map`);
    await page.getByText("Reading vectors: 0 of 120").waitFor();
    goOn();
    await page.getByText("120 of 120 vectors").waitFor();
    const { x = 0, width = 0 } = (await page.getByRole("link", { name: "map" }).boundingBox()) ?? {};
    expect(x).toBeGreaterThan(0);
    expect(x + width).toBeLessThanOrEqual(360);
    expect(faults).toEqual([]);
  });

  test("the keyboard reaches a store and its points, and the first paint comes within a second", async () => {
    await fill("Product handbook", 30);
    const id = await fill("Gardens, databases and music", 240);
    const { page, faults } = await open();
    await page.goto(server.url);
    await page.getByRole("link", { name: "Gardens, databases and music" }).press("Enter");
    await page.getByRole("heading", { name: "Gardens, databases and music" }).waitFor();
    await page.getByRole("link", { name: "map" }).press("Enter");
    await page.getByRole("application").press("ArrowRight");
    await page.locator("p.card", { hasText: "Note" }).waitFor();
    await page.getByLabel("Colour by").selectOption("topic");
    await page.locator(".legend", { hasText: "databases" }).waitFor();
    await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)");
    await picture(page, "console-map");
    await page.goto(`${server.url}/#/stores/${id}/search`);
    await page.getByLabel("Text or vector").fill("pruning roses in winter");
    await page.getByLabel(/Keywords/).fill("30");
    await page.getByLabel(/Diversity/).fill("0.3");
    await page.getByLabel("Of each file").selectOption("the best chunk");
    await page.getByLabel("Text or vector").press("Tab");
    await page.getByRole("button", { name: "Search" }).press("Enter");
    await page.locator("mark").first().waitFor();
    await page.getByText(/^diversify /).waitFor();
    await page.evaluate("document.activeElement.blur()");
    await picture(page, "console-search");
    await page.getByRole("button", { name: "Dark colours" }).click();
    expect(await findBarriers(page)).toEqual([]);
    await picture(page, "console-search-dark");
    await page.getByRole("button", { name: "Light colours" }).click();
    await page.goto(`${server.url}/#/stores`);
    await page.getByText("Product handbook").first().waitFor();
    await picture(page, "console-stores");
    await page.reload();
    await page.getByRole("heading").first().waitFor();
    const paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime");
    expect(paint).toBeGreaterThan(0);
    expect(paint).toBeLessThan(1000);
    expect(faults).toEqual([]);
  });

  test("a key is asked for where one is needed, and kept for the tab", async () => {
    await using browser = await openPage(new URL(guarded.url).origin);
    const { page, faults } = browser;
    await page.goto(guarded.url);
    await page.getByRole("dialog").getByText("You didn't provide an API key").waitFor();
    await page.getByLabel("Key", { exact: true }).fill("a-key-of-16-chars");
    await page.getByRole("button", { name: "Use key" }).click();
    await page.locator("li.card").first().waitFor();
    await page.reload();
    await page.locator("li.card").first().waitFor();
    expect(await page.getByRole("dialog").count()).toBe(0);
    // Chromium reports each reply with status 401 itself.
    expect(faults.filter((fault) => !fault.includes("401"))).toEqual([]);
  });
});
