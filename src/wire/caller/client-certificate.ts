import type { Socket } from "node:net";
import type { PeerCertificate, TLSSocket } from "node:tls";

/** URIs of a certificate that are looked at: SPIFFE, which puts identities there, allows one. */
const URIS_MAX = 4;

/**
 * Returns the subjects by which a connection's client certificate may have been given rights, the best first: the URIs of
 * its subject alternative names, then `CN=` and its common name. Empty where the client has presented none, or one that
 * no authority of TLS_CLIENT_CA_FILE has signed.
 */
export function certificateSubjects(socket: Socket): string[] {
  // Not by `in`: the socket of an HTTP/2 session is a Proxy, which answers for the session there.
  const secure = socket as TLSSocket;
  if (secure.authorized !== true) return [];
  const certificate = secure.getPeerCertificate();
  const name = (certificate.subject as PeerCertificate["subject"] | undefined)?.CN as unknown;
  // Node joins several common names to a list: which of them is meant, nobody can tell.
  return [...readUris(certificate.subjectaltname ?? ""), ...(typeof name === "string" ? [`CN=${name}`] : [])];
}

/**
 * Reads the URIs of a text such as `DNS:a.example, URI:spiffe://b.example/c, DirName:"..."`. Node puts a name with a comma
 * or a quote into quotes, so that no name can pass for two.
 */
function readUris(names: string): string[] {
  const found = names.matchAll(/(?:^|, )(\w[\w ]*):("(?:[^"\\]|\\.)*"|[^,"]*)(?=, |$)/gy);
  return [...found]
    .filter(([, kind, value]) => kind === "URI" && !value?.startsWith('"'))
    .map(([, , value]) => value as string)
    .slice(0, URIS_MAX);
}
