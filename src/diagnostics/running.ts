import { once } from "node:events";
import { get as getHttp, type IncomingMessage } from "node:http";
import { get as getHttps } from "node:https";
import { text } from "node:stream/consumers";
import { z } from "zod";
import type { Diagnosis } from "./diagnose.ts";

/** Where a service of this machine listens, and what it wants to be shown. */
export interface Address {
  host: string;
  port: number;
  /** The certificate it shows; undefined: it speaks without TLS. */
  cert: string | undefined;
  apiKey: string | undefined;
}

/** What `GET /v1/diagnostics` answers. */
const Reply = z.object({
  data: z.array(
    z.object({
      check: z.string(),
      severity: z.enum(["ok", "notice", "warning", "error"]),
      message: z.string(),
      remedy: z.string().nullish(),
    }),
  ),
});

/** Asks a running service to look its database over. Throws where it does not answer, or with something else. */
export async function askRunning(
  { host, port, cert, apiKey }: Address,
  signal: AbortSignal,
): Promise<Diagnosis[]> {
  const options = {
    host: host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host,
    port,
    path: "/v1/diagnostics",
    headers: apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` },
    signal,
  };
  // The certificate itself is trusted, so it need not name this address.
  const trust = { ca: cert, allowPartialTrustChain: true, checkServerIdentity: () => undefined };
  const request = cert === undefined ? getHttp(options) : getHttps({ ...options, ...trust });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`it answered with status ${response.statusCode}`);
  return Reply.parse(JSON.parse(body)).data.map(({ remedy, ...finding }) => ({
    ...finding,
    ...(remedy === null || remedy === undefined ? {} : { remedy }),
  }));
}
