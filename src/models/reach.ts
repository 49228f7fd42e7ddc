import { messageOf } from "../errors.ts";

/** How long an embedding provider may take to answer anything at all. */
const TIMEOUT_MS = 10_000;

/** Says why an embedding provider does not answer; undefined where it answers, with whatever status. Sends no key. */
export async function findSilence(baseUrl: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const response = await fetch(baseUrl, {
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    await response.body?.cancel();
    return undefined;
  } catch (error) {
    // The message of fetch itself is "fetch failed".
    return messageOf(error instanceof Error && error.cause !== undefined ? error.cause : error);
  }
}

/** A provider's URL for the log: without the credentials and the query, which can hold a key. */
export function withoutSecrets(baseUrl: string): string {
  const { origin, pathname } = new URL(baseUrl);
  return origin + (pathname === "/" ? "" : pathname);
}
