import type { IncomingHttpHeaders } from "node:http";
import { permissionDenied } from "../errors.ts";

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
    const { origin } = headers;
    if (origin !== undefined && (origins.includes("*") || origins.includes(origin))) return;
    if (origin === undefined ? headers["sec-fetch-site"] === "cross-site" : !isOwn(origin, host)) {
      throw permissionDenied(
        `Without a key the service refuses requests of web pages from other origins. Set SERVER_API_KEY, or list the origin in CORS_ORIGINS.`,
      );
    }
  };
}

/** Names of loopback: no DNS server can give them another address (RFC 6761, 6.3). */
const LOOPBACK = /^(?:127(?:\.\d{1,3}){3}|\[::1\]|(?:[a-z0-9-]+\.)*localhost\.?)(?::\d{1,5})?$/i;

function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

function isOwn(origin: string, host: string | undefined): boolean {
  return host !== undefined && [`http://${host}`, `https://${host}`].includes(origin.toLowerCase());
}
