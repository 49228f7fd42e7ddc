import { existsSync } from "node:fs";
import { chromium, type Page } from "playwright-core";

const EXECUTABLE = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) =>
  existsSync(path),
);

/** Whether this machine has the browser (Debian's package `chromium`). */
export const hasBrowser = EXECUTABLE !== undefined;

/** A page of a new profile, and what went wrong on it. */
export interface BrowserPage extends AsyncDisposable {
  page: Page;
  /** Errors of the page's scripts and of its console, and requests to other origins. */
  faults: string[];
}

/** Opens a page that may ask `origin` only: every other request is a fault, and is refused. */
export async function openPage(origin: string): Promise<BrowserPage> {
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
    (url) => url.origin !== origin && !["data:", "blob:"].includes(url.protocol),
    (route) => {
      faults.push(`asked ${route.request().url()}`);
      return route.abort();
    },
  );
  return { page, faults, [Symbol.asyncDispose]: () => browser.close() };
}
