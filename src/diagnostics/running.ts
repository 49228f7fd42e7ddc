import { once } from "node:events";
import { get as getHttp, type IncomingMessage } from "node:http";
import { get as getHttps } from "node:https";
import { text } from "node:stream/consumers";
import { z } from "zod";
import type { Diagnosis } from "./diagnose.ts";

/** How to call the service that runs on this machine. */
export interface Address {
  host: string;
  port: number;
  /** The service's TLS certificate (PEM); undefined: the service listens without TLS. */
  cert: string | undefined;
  apiKey: string | undefined;
}

/** The reply of `GET /v1/diagnostics`, as far as the doctor needs it. */
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

/**
 * Fetches the findings of a running service. Throws when the service does not answer, or not with findings.
 */
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
  // Certificate pinning: only the given certificate is trusted, so its names need not include the loopback
  // address.
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
