import { messageOf } from "../errors.ts";

/** Timeout for the first response of an embedding provider. */
const TIMEOUT_MS = 10_000;

/**
 * Checks that an embedding provider is reachable: returns the error, or undefined when the provider answers
 * with any HTTP status. Sends no API key.
 */
export async function findSilence(baseUrl: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const response = await fetch(baseUrl, {
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    await response.body?.cancel();
    return undefined;
  } catch (error) {
    // The message of fetch is always "fetch failed"; the cause has the details.
    return messageOf(error instanceof Error && error.cause !== undefined ? error.cause : error);
  }
}

/** Removes credentials and query, which may contain a key, from a provider's URL, for the log. */
export function withoutSecrets(baseUrl: string): string {
  const { origin, pathname } = new URL(baseUrl);
  return origin + (pathname === "/" ? "" : pathname);
}
