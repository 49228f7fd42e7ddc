import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import scalar from "@scalar/fastify-api-reference";
import type { FastifyInstance } from "fastify";
import { createAsset, sendAsset, type Asset } from "./asset.ts";

/** For how long browsers keep a description of the API. */
const CACHING = { "cache-control": "public, max-age=300" };

/** The inline script of the viewer's page. */
const INLINE_SCRIPT = /<script type="text\/javascript">([\s\S]*?)<\/script>/;

/**
 * Serves the API's description (OpenAPI 3.1) as `/openapi.json`, pages to read it as `/docs`, and the reference of the
 * gRPC side as `/docs/grpc`. All are the same for everybody and are served without a key. The pages load nothing from elsewhere, which their Content-Security-Policy
 * enforces.
 */
export async function referenceRoutes(app: FastifyInstance): Promise<void> {
  const description = readGenerated("openapi.json", "application/json; charset=utf-8");
  app.get("/openapi.json", (request, reply) => sendAsset(request, reply, description, CACHING));
  const grpc = readGenerated("grpc.html", "text/html; charset=utf-8");
  const headers = { ...CACHING, "content-security-policy": policyForStyleOf(grpc) };
  app.get("/docs/grpc", (request, reply) => sendAsset(request, reply, grpc, headers));
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

function readGenerated(name: string, type: string): Asset {
  return createAsset(readFileSync(new URL(`../../../gen/${name}`, import.meta.url)), type);
}

/** Allows the page its inline style, and nothing else. */
function policyForStyleOf({ body }: Asset): string {
  const [, style = ""] = /<style>([^]*?)<\/style>/.exec(body.toString()) ?? [];
  return `default-src 'none'; style-src 'sha256-${hash(style)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
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
