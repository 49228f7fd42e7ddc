import type { IncomingHttpHeaders } from "node:http";
import { permissionDenied } from "../../errors.ts";

/** Throws PERMISSION_DENIED for a request that a web page of another site may have made. */
export type RefuseForeign = (headers: IncomingHttpHeaders) => void;

/**
 * Creates the check that protects a service without API keys from web pages (cross-site request forgery and
 * DNS rebinding): such a service listens on loopback only, but the browser of somebody who runs it reaches it
 * for every page that is open there. Requests must name a loopback host, and their `Origin` must be this host
 * or one of `origins`. Where keys are needed there is no check, since a browser does not send a bearer key by itself.
 */
export function createPageGuard(isOpen: () => boolean, origins: readonly string[]): RefuseForeign {
  return (headers) => {
    if (!isOpen()) return;
    const host = headers[":authority"]?.toString() ?? headers.host;
    if (host !== undefined && !isLoopback(host)) {
      throw permissionDenied(
        `Without a key the service answers to loopback hosts only, not to '${host}'. Set SERVER_API_KEY to use another name.`,
      );
    }
    if (!isForeign(headers, host, origins)) return;
    throw permissionDenied(
      `Without a key the service refuses requests of web pages from other origins. Set SERVER_API_KEY, or list the origin in CORS_ORIGINS.`,
    );
  };
}

/**
 * Creates the check that protects callers whose client certificate is their only credential: a browser presents it by
 * itself, for every page. "*" among the origins does not count here.
 */
export function createCertificateGuard(origins: readonly string[]): RefuseForeign {
  const named = origins.filter((origin) => origin !== "*");
  return (headers) => {
    if (!isForeign(headers, headers[":authority"]?.toString() ?? headers.host, named)) return;
    throw permissionDenied(
      "A web page of another origin cannot use a client certificate. Send a key, or list the origin in CORS_ORIGINS.",
    );
  };
}

function isForeign(
  headers: IncomingHttpHeaders,
  host: string | undefined,
  origins: readonly string[],
): boolean {
  const { origin } = headers;
  if (origin === undefined) return headers["sec-fetch-site"] === "cross-site";
  return !origins.includes("*") && !origins.includes(origin) && !isOwn(origin, host);
}

/** Names of loopback: no DNS server can give them another address (RFC 6761, 6.3). */
const LOOPBACK = /^(?:127(?:\.\d{1,3}){3}|\[::1\]|(?:[a-z0-9-]+\.)*localhost\.?)(?::\d{1,5})?$/i;

function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

function isOwn(origin: string, host: string | undefined): boolean {
  return host !== undefined && [`http://${host}`, `https://${host}`].includes(origin.toLowerCase());
}
