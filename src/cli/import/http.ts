import { setTimeout as delay } from "node:timers/promises";
import { Failed } from "../exit.ts";

const TIMEOUT_MS = 60_000;
const ATTEMPTS_MAX = 6;
const WAIT_FIRST_MS = 250;
const WAIT_MAX_MS = 30_000;

/** A JSON API of another product. */
export class JsonApi {
  readonly #url: string;
  readonly #headers: Record<string, string>;

  /** `url`: of the server, without a path. `headers`: of every request, such as those with a key; undefined ones are left out. */
  constructor(url: string, headers: Record<string, string | undefined>) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = Object.fromEntries(
      Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
  }

  /** Sends a GET, or with a body a POST. What may pass (no connection, 429, 5xx) is tried again; the rest throws. */
  async call<Reply>(path: string, body?: object): Promise<Reply> {
    for (let attempt = 1; ; attempt++) {
      const answer = await this.#send(path, body);
      if (answer instanceof Response && answer.ok) return (await answer.json()) as Reply;
      const isPassing = !(answer instanceof Response) || answer.status === 429 || answer.status >= 500;
      if (!isPassing || attempt === ATTEMPTS_MAX) throw new Failed(await this.#describe(path, answer));
      const asked = answer instanceof Response ? Number(answer.headers.get("retry-after") ?? 0) * 1000 : 0;
      // Exponential backoff with jitter, as for the service itself.
      const backoffMs = WAIT_FIRST_MS * 2 ** attempt * (0.5 + Math.random() / 2);
      await delay(Math.min(WAIT_MAX_MS, Math.max(asked || 0, backoffMs)));
    }
  }

  async #send(path: string, body: object | undefined): Promise<Response | Error> {
    try {
      return await fetch(this.#url + path, {
        headers: { ...this.#headers, ...(body !== undefined && { "content-type": "application/json" }) },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        // The key must not go to another host.
        redirect: "error",
        ...(body !== undefined && { method: "POST", body: JSON.stringify(body) }),
      });
    } catch (error) {
      return error as Error;
    }
  }

  async #describe(path: string, answer: Response | Error): Promise<string> {
    const { pathname } = new URL(this.#url + path);
    if (!(answer instanceof Response)) {
      const { message, cause } = answer;
      return `${this.#url} cannot be reached: ${cause instanceof Error ? cause.message : message}.`;
    }
    const text = (await answer.text()).slice(0, 300);
    return `${this.#url}${pathname} answered ${answer.status}: ${text}`;
  }
}
