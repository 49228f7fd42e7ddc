import type { FastifyInstance, FastifyRequest } from "fastify";
import { SCOPE_WORDS } from "../../api/scope.ts";

/** Who issues the tokens that the service takes, and for whom they must be. */
export interface TokenIssuer {
  issuer: string;
  audiences: readonly string[];
}

const WELL_KNOWN = "/.well-known/oauth-protected-resource";

/** Hosts of requests that can stand in a URL and in a quoted text. */
const HOST = /^[\w.-]+(?::\d+)?$|^\[[\da-f:.]+\](?::\d+)?$/i;

/** The parts of the service that describe themselves as resources, with the scopes that clients are to ask for. */
const RESOURCES: ReadonlyMap<string, readonly string[]> = new Map([
  ["", SCOPE_WORDS],
  ["/mcp", ["search", "stores.read", "files.read", "embeddings.read"]],
]);

/**
 * Serves the metadata of protected resources (RFC 9728), by which OAuth clients find the authorization server whose tokens
 * the service takes. They are public, and the same for everybody.
 */
export function protectedResourceRoutes(app: FastifyInstance, tokens: TokenIssuer): void {
  for (const [path, scopes] of RESOURCES)
    app.get(`${WELL_KNOWN}${path}`, (request) => ({
      resource: resourceOf(request, path, tokens),
      authorization_servers: [tokens.issuer],
      scopes_supported: scopes,
      bearer_methods_supported: ["header"],
      resource_name: "pgquiver",
    }));
}

/** The challenge of a 401, which names the metadata of the resource at `path`. */
export function challengeFor(request: FastifyRequest, path: string, tokens: TokenIssuer): string {
  const { origin } = new URL(resourceOf(request, path, tokens));
  const error = (request.headers.authorization ?? "") === "" ? "" : `error="invalid_token", `;
  return `Bearer ${error}resource_metadata="${origin}${WELL_KNOWN}${path}"`;
}

/**
 * The URL of the resource, for which clients ask for tokens: the audience that is a URL of the request's host and covers the
 * path, the most exact one; else the URL of the request. Behind a proxy with TLS only an audience tells that it is https.
 */
function resourceOf({ protocol, host }: FastifyRequest, path: string, { audiences }: TokenIssuer): string {
  const known = HOST.test(host) ? host : "localhost";
  const own = new URL(`${protocol}://${known}${path}`);
  const covers = (audience: string) => {
    const url = URL.parse(audience);
    const isHere = url?.host === own.host || (url !== null && url.host === known.replace(/:(?:80|443)$/, ""));
    return isHere && `${own.pathname}/`.startsWith(`${url?.pathname.replace(/\/$/, "")}/`);
  };
  const [exact] = audiences.filter(covers).toSorted((one, other) => other.length - one.length);
  return exact ?? `${protocol}://${known}${path}`;
}
