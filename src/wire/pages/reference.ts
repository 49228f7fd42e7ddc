import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import scalar from "@scalar/fastify-api-reference";
import type { FastifyInstance } from "fastify";

/** For how long browsers keep the description of the API, in seconds. */
const MAX_AGE = 300;

/** The inline script of the viewer's page. */
const INLINE_SCRIPT = /<script type="text\/javascript">([\s\S]*?)<\/script>/;

/**
 * Serves the API's description (OpenAPI 3.1) as `/openapi.json`, pages to read it as `/docs`, and the reference of the
 * gRPC side as `/docs/grpc`. All are the same for everybody and are served without a key. The pages load nothing from elsewhere, which their Content-Security-Policy
 * enforces.
 */
export async function referenceRoutes(app: FastifyInstance): Promise<void> {
  const description = readFileSync(new URL("../../../gen/openapi.json", import.meta.url));
  const compressed = gzipSync(description);
  const tag = `"${hash(description)}"`;
  app.get("/openapi.json", (request, reply) => {
    void reply.headers({ etag: tag, "cache-control": `public, max-age=${MAX_AGE}`, vary: "accept-encoding" });
    if (request.headers["if-none-match"] === tag) return reply.code(304).send();
    void reply.type("application/json; charset=utf-8");
    if (!/\bgzip\b/.test(String(request.headers["accept-encoding"]))) return reply.send(description);
    return reply.header("content-encoding", "gzip").send(compressed);
  });
  const grpc = readFileSync(new URL("../../../gen/grpc.html", import.meta.url));
  const compressedGrpc = gzipSync(grpc);
  const [, style = ""] = /<style>([^]*?)<\/style>/.exec(grpc.toString()) ?? [];
  app.get("/docs/grpc", (request, reply) => {
    void reply.headers({
      "cache-control": `public, max-age=${MAX_AGE}`,
      vary: "accept-encoding",
      "content-security-policy": `default-src 'none'; style-src 'sha256-${hash(style)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    });
    void reply.type("text/html; charset=utf-8");
    if (!/\bgzip\b/.test(String(request.headers["accept-encoding"]))) return reply.send(grpc);
    return reply.header("content-encoding", "gzip").send(compressedGrpc);
  });
  app.addHook("onSend", async (_request, reply, body) => {
    const [, script] = (typeof body === "string" && INLINE_SCRIPT.exec(body)) || [];
    void reply.header("x-content-type-options", "nosniff");
    if (script !== undefined) void reply.header("content-security-policy", policyFor(script));
    return body;
  });
  await app.register(scalar, {
    routePrefix: "/docs",
    configuration: {
      // Relative to /docs/, so that a proxy may serve both under a prefix.
      url: "../openapi.json",
      pageTitle: "pgquiver API",
      authentication: { preferredSecurityScheme: "key" },
      favicon: "data:,",
      // What would ask servers of the viewer's makers.
      withDefaultFonts: false,
      telemetry: false,
      proxyUrl: "",
      hideClientButton: true,
      showDeveloperTools: "never",
      agent: { disabled: true },
      mcp: { disabled: true },
    },
  });
}

/** Allows the page its own script, requests to this service, and nothing else. The viewer makes styles as it runs. */
function policyFor(script: string): string {
  return [
    "default-src 'none'",
    `script-src 'self' 'sha256-${hash(script)}'`,
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

function hash(bytes: string | Buffer): string {
  return createHash("sha256").update(bytes).digest("base64");
}
