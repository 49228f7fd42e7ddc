import pg from "pg";
import { isSessionKind, SESSION_KINDS, type SessionKind } from "./servers.ts";

const FORM = "postgresql://user:password@host:5432/database";
const DEFAULT_PORT = "5432";

/** What is before the servers in a URL without its query, the servers, and what is behind them. */
const SERVER_LIST = /^(.*?:\/\/(?:[^/?#]*@)?)([^/?#]*)(.*)$/s;

/** What is wrong with the servers of a URL, in words that quote no part of the URL. */
class ServerListError extends Error {}

/** The servers that a Postgres URL names, and which of them are wanted. */
export interface ServerList {
  /** A URL for each server, in the order in which they are tried. */
  urls: string[];
  /** libpq's `target_session_attrs`. */
  wanted: SessionKind;
}

/**
 * Validates the syntax of a Postgres URL: returns what is wrong, or undefined when the URL is valid. The text
 * quotes no part of the URL, because the URL contains a password and the text is logged.
 */
export function findUrlFault(url: string): string | undefined {
  if (!/^postgres(?:ql)?:\/\//.test(url)) return `expected a URL such as ${FORM}`;
  const afterScheme = url.slice(url.indexOf("://") + 3);
  const authority = /^[^/?#]*/.exec(afterScheme)?.[0] ?? "";
  const [path = ""] = afterScheme.slice(authority.length).split("?", 1);
  const fault = findServerFault(url);
  // An unescaped / ? or # in the password ends the authority early, so the @ before the host comes after it.
  const isCut =
    path.includes("@") || (fault !== undefined && afterScheme.slice(authority.length).includes("@"));
  if (isCut) {
    return "the user or the password contains an unescaped character: write / as %2F, ? as %3F, # as %23 and @ as %40 there";
  }
  return fault;
}

/** Splits a URL at its query. `take` returns a parameter's value and removes the parameter. */
export function splitQuery(url: string): {
  base: string;
  parameters: URLSearchParams;
  take: (name: string) => string | undefined;
} {
  const [base = "", query = ""] = url.split("?", 2);
  const parameters = new URLSearchParams(query);
  const take = (name: string): string | undefined => {
    const value = parameters.get(name) ?? undefined;
    parameters.delete(name);
    return value;
  };
  return { base, parameters, take };
}

/**
 * Reads the servers that a URL names, with libpq's meaning (PostgreSQL manual, "Specifying Multiple Hosts"):
 * host and port from the query go before those of the URL itself, then come the variables PGHOST and PGPORT;
 * one port is for all hosts. Unlike libpq, several hosts without `target_session_attrs` mean read-write, since
 * the service writes. Throws when the URL is malformed.
 */
export function readServers(url: string): ServerList {
  const { base, parameters, take } = splitQuery(url);
  const wanted = readWanted(take("target_session_attrs"));
  const [, head = "", list = "", path = ""] = SERVER_LIST.exec(base) ?? [];
  const host = parameters.get("host") ?? (list === "" ? process.env["PGHOST"] : undefined);
  const items = (host ?? list).split(",");
  // node-postgres understands a single server.
  if (items.length === 1) {
    const rest = parameters.size === 0 ? base : `${base}?${parameters.toString()}`;
    return { urls: [rest], wanted: wanted ?? "any" };
  }
  const servers = host === undefined ? items.map(splitPort) : items.map((name) => ({ name, port: "" }));
  const hasPorts = servers.some(({ port }) => port !== "");
  const ports = (take("port") ?? (hasPorts ? undefined : process.env["PGPORT"]) ?? "").split(",");
  if (ports.length > 1 && ports.length !== servers.length) {
    throw new ServerListError(
      `names ${servers.length} hosts and ${ports.length} ports: give one port, or one for each host`,
    );
  }
  return {
    wanted: wanted ?? "read-write",
    urls: servers.map(({ name, port }, index) => {
      if (name === "") throw new ServerListError("names an empty host between commas");
      const asked = ports[index] ?? ports[0] ?? "";
      const one = new URLSearchParams(parameters);
      one.set("host", name);
      one.set("port", readPort(asked === "" ? port : asked));
      // The host of the query has precedence; node-postgres cannot parse a URL with a user and without a host.
      return `${head}one${path}?${one.toString()}`;
    }),
  };
}

/** The URL of another server with the same database, user and parameters. */
export function replaceServer(url: string, { host, port }: { host: string; port: number }): string {
  const { base, parameters } = splitQuery(url);
  const [, head = "", , path = ""] = SERVER_LIST.exec(base) ?? [];
  parameters.delete("target_session_attrs");
  parameters.set("host", host);
  parameters.set("port", String(port));
  // The host of the query has precedence; node-postgres cannot parse a URL with a user and without a host.
  return `${head}one${path}?${parameters.toString()}`;
}

function readWanted(value: string | undefined): SessionKind | undefined {
  if (value === undefined || value === "" || isSessionKind(value)) return value || undefined;
  throw new ServerListError(`target_session_attrs: expected one of ${SESSION_KINDS.join(", ")}`);
}

function splitPort(item: string): { name: string; port: string } {
  const parts = /^(?:\[([^[\]]*)\]|([^:[\]]*))(?::(.*))?$/s.exec(item);
  if (parts === null) throw new ServerListError(`is not a URL such as ${FORM}`);
  const [, bracketed, plain = "", port = ""] = parts;
  return { name: bracketed ?? decodeURIComponent(plain), port };
}

function readPort(port: string): string {
  if (port === "") return DEFAULT_PORT;
  if (/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535) return port;
  throw new ServerListError("expected ports from 1 to 65535");
}

/** What is wrong with the servers of the URL; undefined when node-postgres can parse each of their URLs. */
function findServerFault(url: string): string | undefined {
  try {
    // Without the query, which may name files.
    for (const one of readServers(url).urls) void new pg.Client({ connectionString: one.split("?", 1)[0] });
    return undefined;
  } catch (error) {
    return error instanceof ServerListError ? error.message : `is not a URL such as ${FORM}`;
  }
}
