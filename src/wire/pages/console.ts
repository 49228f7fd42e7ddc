import { readdirSync, readFileSync } from "node:fs";
import { extname } from "node:path";
import type { FastifyInstance } from "fastify";
import { createAsset, sendAsset, type Asset } from "./asset.ts";

/** What `npm run generate` builds from console/. */
const BUILT = new URL("../../../gen/console/", import.meta.url);

/** Media types of the files of the console. */
const TYPES: Record<string, string> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/**
 * Allows the page its own files and requests to this service, and nothing else: no inline script, no inline style, no
 * frame around the page.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** The name of an asset has a hash of its content, so that browsers never ask again. */
const IMMUTABLE = "public, max-age=31536000, immutable";

const HEADERS = {
  "content-security-policy": POLICY,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
};

/**
 * Serves the web console: the page as `/`, its scripts and styles as `/assets/…`. They are the same for everybody and are
 * served without a key; the page calls the API with the key of its user.
 */
export async function consoleRoutes(app: FastifyInstance): Promise<void> {
  const page = readAsset("index.html");
  app.get("/", (request, reply) =>
    sendAsset(request, reply, page, { ...HEADERS, "cache-control": "no-cache" }),
  );
  for (const name of readdirSync(new URL("assets/", BUILT))) {
    const asset = readAsset(`assets/${name}`);
    app.get(`/assets/${name}`, (request, reply) =>
      sendAsset(request, reply, asset, { ...HEADERS, "cache-control": IMMUTABLE }),
    );
  }
}

function readAsset(path: string): Asset {
  const type = TYPES[extname(path)];
  if (type === undefined) throw new Error(`The console has a file of unknown type: ${path}`);
  return createAsset(readFileSync(new URL(path, BUILT)), type);
}
