import { createLocalJWKSet, errors, type JWTVerifyGetKey } from "jose";
import { unavailable } from "../errors.ts";

/** How often the keys are fetched again, so that keys which the provider has withdrawn are no longer believed. */
const REFRESH_MS = 300_000;
/** For how long keys are believed while the provider does not answer. */
const TRUST_MS = 86_400_000;
/** Timeout of one fetch, and the most bytes of its answer. */
const FETCH_MS = 5_000;
const BYTES_MAX = 262_144;

/** Where an identity provider publishes its keys. */
export interface KeySetOptions {
  url: string;
  /** Least time between two fetches for keys that are not known. */
  cooldownMs: number;
  /** Called when the keys have changed: what was verified by the keys before is to be verified again. */
  onChange: () => void;
  /** Called when the keys could not be fetched, once until they could be again. */
  onFailure: (error: unknown) => void;
}

/**
 * The public keys of an identity provider: a JSON Web Key Set that is fetched at the start, every five minutes, and,
 * not more often than the cooldown allows, when a token names a key that is not in it. While the provider does not
 * answer, the keys fetched before go on serving for a day.
 */
export class KeySet {
  readonly #options: KeySetOptions;
  #keys: ReturnType<typeof createLocalJWKSet> | undefined;
  #text = "";
  #fetchedAtMs = -Infinity;
  #triedAtMs = -Infinity;
  /** Why the last fetch failed; undefined: it did not. */
  #failure: unknown;
  #fetching: Promise<void> | undefined;
  readonly #refresh: NodeJS.Timeout;

  constructor(options: KeySetOptions) {
    this.#options = options;
    this.#refresh = setInterval(() => void this.#fetch().catch(() => {}), REFRESH_MS).unref();
    void this.#fetch().catch(() => {});
  }

  /**
   * Finds the key that a token's header names. Throws jose's JWKSNoMatchingKey when the provider does not publish it,
   * and UNAVAILABLE when the provider does not say.
   */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    const keys = this.#keys ?? (await this.#fetchUnlessCooling());
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const isAsking = this.#fetching !== undefined;
      if (!isAsking && this.#failure === undefined && this.#isCooling()) throw error;
      return (await this.#fetchUnlessCooling())(header, token);
    }
  };

  /** Ends the work in the background. */
  stop(): void {
    clearInterval(this.#refresh);
  }

  #isCooling(): boolean {
    return performance.now() - this.#triedAtMs < this.#options.cooldownMs;
  }

  async #fetchUnlessCooling(): Promise<ReturnType<typeof createLocalJWKSet>> {
    if (this.#fetching === undefined && this.#failure !== undefined && this.#isCooling())
      throw silent(this.#failure);
    await this.#fetch().catch((error: unknown) => {
      throw silent(error);
    });
    if (this.#keys === undefined) throw silent(undefined);
    return this.#keys;
  }

  /** Fetches the keys, once for all who ask at the same time. */
  async #fetch(): Promise<void> {
    this.#fetching ??= this.#refreshKeys().finally(() => (this.#fetching = undefined));
    await this.#fetching;
  }

  async #refreshKeys(): Promise<void> {
    this.#triedAtMs = performance.now();
    try {
      const text = await fetchText(this.#options.url);
      if (text !== this.#text) {
        this.#keys = createLocalJWKSet(JSON.parse(text));
        this.#text = text;
        this.#options.onChange();
      }
      this.#fetchedAtMs = performance.now();
      this.#failure = undefined;
    } catch (error) {
      if (this.#failure === undefined) this.#options.onFailure(error);
      this.#failure = error;
      if (performance.now() - this.#fetchedAtMs > TRUST_MS) {
        this.#keys = undefined;
        this.#text = "";
        this.#options.onChange();
      }
      throw error;
    }
  }
}

async function fetchText(url: string): Promise<string> {
  const response = await fetch(url, {
    redirect: "manual",
    headers: { accept: "application/jwk-set+json, application/json" },
    signal: AbortSignal.timeout(FETCH_MS),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`the answer has status ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    // Leaving the loop cancels the rest of the body.
    if (bytes > BYTES_MAX) throw new Error(`the answer has more than ${BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function silent(cause: unknown) {
  const message = "The keys of the identity provider cannot be read at the moment.";
  return unavailable("IDENTITY_PROVIDER_UNAVAILABLE", message, { retryAfterMs: 1000, cause });
}
