import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { SecureContextOptions, Server } from "node:tls";
import type { FastifyBaseLogger } from "fastify";
import { messageOf } from "../errors.ts";

/** Paths of PEM files for TLS. */
export interface TlsFiles {
  cert: string;
  key: string;
  /** Certificate authorities for client certificates (mTLS); undefined: clients need no certificate. */
  clientCa: string | undefined;
}

/** Polling interval for changes of the files, in milliseconds. */
const WATCH_INTERVAL_MS = 5_000;

/**
 * Reads the files into the options of a TLS server, with TLS 1.2 as the minimum version. Throws when a file
 * cannot be read.
 */
export function readCertificates({ cert, key, clientCa }: TlsFiles): SecureContextOptions & {
  requestCert?: boolean;
} {
  return {
    cert: readFileSync(cert, "utf8"),
    key: readFileSync(key, "utf8"),
    minVersion: "TLSv1.2",
    ...(clientCa === undefined ? {} : { ca: readFileSync(clientCa, "utf8"), requestCert: true }),
  };
}

/**
 * Reloads the certificates when the files change, for new connections. If the files cannot be read or do not
 * match, an error is logged and the previous certificates stay in use. Returns a function that stops the
 * watch.
 */
export function watchCertificates(
  server: Pick<Server, "setSecureContext">,
  files: TlsFiles,
  log: FastifyBaseLogger,
  intervalMs = WATCH_INTERVAL_MS,
): () => void {
  const paths = [files.cert, files.key, ...(files.clientCa === undefined ? [] : [files.clientCa])];
  const reload = () => {
    try {
      server.setSecureContext(readCertificates(files));
      log.info("TLS: the renewed certificate is in use");
    } catch (error) {
      log.error(`TLS: the renewed certificate cannot be used, the old one stays: ${messageOf(error)}`);
    }
  };
  const read = async () => {
    const contents = await Promise.all(paths.map((path) => readFile(path, "utf8")));
    return contents.join("\n");
  };
  let known = paths.map((path) => readFileSync(path, "utf8")).join("\n");
  // Polling, because certificate volumes are often symbolic links or network file systems, for which file
  // system events are not reliable. By content: `watchFile` misses a change before its first look at the file.
  const look = async () => {
    const found = await read().catch((error: unknown) => messageOf(error));
    if (found === known) return;
    known = found;
    reload();
  };
  const timer = setInterval(() => void look(), intervalMs).unref();
  return () => clearInterval(timer);
}
