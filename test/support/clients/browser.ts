import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium, type Page } from "playwright-core";

const EXECUTABLE = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) =>
  existsSync(path),
);

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Whether this machine has the browser (Debian's package `chromium`). */
export const hasBrowser = EXECUTABLE !== undefined;

/** A page of a new profile, and what went wrong on it. */
export interface BrowserPage extends AsyncDisposable {
  page: Page;
  /** Errors of the page's scripts and of its console, and requests to other origins. */
  faults: string[];
}

/** Opens a page that may ask these origins only: every other request is a fault, and is refused. */
export async function openPage(...origins: string[]): Promise<BrowserPage> {
  const browser = await chromium.launch({
    executablePath: EXECUTABLE as string,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const faults: string[] = [];
  page.on("pageerror", ({ message }) => faults.push(message));
  page.on("console", (line) => {
    if (line.type() === "error") faults.push(`${line.text()} ${line.location().url}`);
  });
  await page.route(
    (url) => !origins.includes(url.origin) && !["data:", "blob:"].includes(url.protocol),
    (route) => {
      faults.push(`asked ${route.request().url()}`);
      return route.abort();
    },
  );
  return { page, faults, [Symbol.asyncDispose]: () => browser.close() };
}

/** What axe-core finds that is serious or worse. */
export async function findBarriers(page: Page): Promise<string[]> {
  // The page's Content-Security-Policy refuses script tags with content, but not what the debugger evaluates.
  await page.evaluate(readFileSync(AXE, "utf8"));
  const found = (await page.evaluate("axe.run()")) as {
    violations: { id: string; impact: string; nodes: { html: string }[] }[];
  };
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}

/** Whether a page must be scrolled sideways. */
export async function isTooWide(page: Page): Promise<boolean> {
  const isWide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
  return (await page.evaluate(isWide)) as boolean;
}
