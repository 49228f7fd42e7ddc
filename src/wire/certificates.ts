import { readFileSync, unwatchFile, watchFile } from "node:fs";
import type { SecureContextOptions, Server } from "node:tls";
import type { FastifyBaseLogger } from "fastify";
import { messageOf } from "../errors.ts";

/** PEM files for TLS. */
export interface TlsFiles {
  cert: string;
  key: string;
  /** Certificate authorities one of which must have signed the client's certificate (mTLS); undefined: none is asked for. */
  clientCa: string | undefined;
}

/** How often the files are looked at for a change, in milliseconds. */
const WATCH_INTERVAL_MS = 5_000;

/** Reads the files as options of a TLS server. TLS 1.2 is the oldest version spoken. Throws when a file cannot be read. */
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
 * Takes renewed certificates into use for new connections when the files change. A pair that cannot be read or does not
 * match is logged, and the old pair stays. Returns how to stop.
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
  // Polling, since volumes of certificates are often links or network file systems, of which the kernel tells nothing.
  for (const path of paths) watchFile(path, { interval: intervalMs, persistent: false }, reload);
  return () => {
    for (const path of paths) unwatchFile(path, reload);
  };
}
