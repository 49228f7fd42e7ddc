import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "./random.ts";

/** A project, and its key. */
export interface Team {
  project: string;
  key: string;
}

/** What a team has, as far as its own calls know. */
interface Model {
  /** Texts by id, by store. */
  stores: Map<string, Map<string, string>>;
  /** Ids of files. */
  files: Set<string>;
}

/** The service under test. */
export interface Ground {
  address: () => Promise<string>;
  /** Kills the service, which starts again. */
  strike: () => Promise<void>;
}

/** What a trial came to: `problems` are differences from what the team alone has done. */
export interface ProjectTrial {
  calls: number;
  struck: number;
  problems: string[];
}

type Reply = Record<string, unknown> & { data: Reply[]; id: string };
interface Answer {
  status: number;
  body: Reply;
}

/** The ids that all teams use. */
const STORES = ["faq", "docs", "notes"];
const ROWS = Array.from({ length: 8 }, (_, index) => `row-${index}`);
const FILES_MAX = 4;

/** Statuses of a call that was not made, or of which nobody knows whether it was. */
const UNKNOWN = new Set([0, 500, 502, 503]);

/**
 * Lets teams work at the same time in the same ids, while the service is killed. After each change, and after each call
 * that was cut off, a team must see what its own calls have made, and count, list and find nothing else.
 */
export async function runProjectTrial(
  random: (stream: number) => Random,
  ground: Ground,
  teams: readonly Team[],
  plan: { steps: number; strikes: number },
): Promise<ProjectTrial> {
  const trial: ProjectTrial = { calls: 0, struck: 0, problems: [] };
  const timing = random(teams.length);
  // One strike in each part of the trial, so that none is left out where the calls are fast.
  const part = (teams.length * plan.steps) / plan.strikes;
  const marks = new Set(
    Array.from({ length: plan.strikes }, (_, strike) =>
      Math.floor(part * strike + timing.integer(0, Math.floor(part) - 1)),
    ),
  );
  let steps = 0;
  let strikes = Promise.resolve();
  const strike = async (before: Promise<void>) => {
    await before;
    // Somewhere in the calls that are under way.
    await delay(timing.integer(0, 20));
    await ground.strike();
    trial.struck++;
  };
  const onStep = () => {
    if (marks.has(steps++)) strikes = strike(strikes);
  };
  const workers = teams.map((team, index) => {
    const other = teams[(index + 1) % teams.length] as Team;
    return new Worker(random(index), ground, team, other, trial, onStep);
  });
  await Promise.all(workers.map(async (worker) => worker.run(plan.steps)));
  await strikes;
  for (const worker of workers) await worker.settle();
  return trial;
}

class Worker {
  readonly #random: Random;
  readonly #ground: Ground;
  readonly #team: Team;
  readonly #other: Team;
  readonly #trial: ProjectTrial;
  readonly #onStep: () => void;
  #model: Model = { stores: new Map(), files: new Set() };
  #texts = 0;

  constructor(
    random: Random,
    ground: Ground,
    team: Team,
    other: Team,
    trial: ProjectTrial,
    onStep: () => void,
  ) {
    this.#random = random;
    this.#ground = ground;
    this.#team = team;
    this.#other = other;
    this.#trial = trial;
    this.#onStep = onStep;
  }

  async run(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      this.#onStep();
      await this.#step();
      if (step % 5 === 4) await this.#compare();
    }
  }

  /** Compares for the last time. */
  async settle(): Promise<void> {
    await this.#compare();
  }

  async #step(): Promise<void> {
    const store = this.#random.pick(STORES);
    const row = this.#random.pick(ROWS);
    const path = `/vector_stores/${store}`;
    const rows = this.#model.stores.get(store);
    const content = `${this.#team.project} text ${this.#texts++} of ${row}`;
    const change = this.#random.integer(0, 9);
    if (change === 0) {
      const answer = await this.#call("POST", "/vector_stores", { id: store, name: this.#team.project });
      return this.#expect(answer, rows === undefined ? 200 : 409, () =>
        this.#model.stores.set(store, new Map()),
      );
    }
    if (change === 1) {
      const answer = await this.#call("DELETE", path);
      return this.#expect(answer, rows === undefined ? 404 : 200, () => this.#model.stores.delete(store));
    }
    if (change <= 4) {
      const answer = await this.#call("POST", `${path}/embeddings`, { id: row, content });
      const status = rows === undefined ? 404 : rows.has(row) ? 409 : 200;
      return this.#expect(answer, status, () => rows?.set(row, content));
    }
    if (change === 5) {
      const answer = await this.#call("DELETE", `${path}/embeddings/${row}`);
      return this.#expect(answer, rows?.has(row) === true ? 200 : 404, () => rows?.delete(row));
    }
    if (change === 6) {
      const line = JSON.stringify({ id: row, content });
      const answer = await this.#call("POST", `${path}/embeddings/ingest?mode=upsert`, line);
      return this.#expect(answer, rows === undefined ? 404 : 200, () => rows?.set(row, content));
    }
    if (change === 7) {
      // Moves the store to a table of its own, and back to none.
      const policy = this.#random.pick(["always", "auto"]);
      const answer = await this.#call("POST", `${path}/index`, { policy });
      return this.#expect(answer, rows === undefined ? 404 : 200, () => {});
    }
    if (change === 8) return this.#changeFiles();
    return this.#peep(store);
  }

  async #changeFiles(): Promise<void> {
    const { files } = this.#model;
    const [first] = files;
    if (files.size < FILES_MAX) {
      const form = new FormData();
      form.append("purpose", "assistants");
      form.append("file", new Blob([`${this.#team.project} file`]), `${this.#team.project}.txt`);
      const answer = await this.#call("POST", "/files", form);
      return this.#expect(answer, 200, () => files.add(answer.body.id));
    }
    const answer = await this.#call("DELETE", `/files/${first}`);
    return this.#expect(answer, 200, () => files.delete(first as string));
  }

  /** Asks for the other team's store by its stored id, and for a file that it has shown nobody. */
  async #peep(store: string): Promise<void> {
    const stored = encodeURIComponent(`${this.#other.project}/${store}`);
    const asked: [string, string, unknown?][] = [
      ["GET", `/vector_stores/${stored}`],
      ["DELETE", `/vector_stores/${stored}`],
      ["POST", `/vector_stores/${stored}/search`, { query: "text" }],
      ["POST", `/vector_stores/${stored}/embeddings`, { id: "planted", content: "x" }],
    ];
    const [method, path, body] = this.#random.pick(asked);
    await this.#expect(await this.#call(method, path, body), 404, () => {});
  }

  /** Takes the change over when the call succeeded as it must; after an unknown outcome, what is there. */
  async #expect({ status, body }: Answer, expected: number, change: () => void): Promise<void> {
    if (UNKNOWN.has(status)) return this.#adopt();
    if (status !== expected)
      this.#report(`answered ${status} instead of ${expected}: ${JSON.stringify(body)}`);
    else if (status === 200) change();
  }

  /** Reads the state after a call of which nobody knows whether it was made: its transaction may still be ending. */
  async #adopt(): Promise<void> {
    for (let last = ""; ;) {
      const seen = await this.#read();
      const now = JSON.stringify(toPlain(seen));
      if (now === last) return this.#takeOver(seen);
      last = now;
      await delay(300);
    }
  }

  /** One call has changed one thing at most, and everything is the team's own. */
  #takeOver(seen: Model): void {
    const before = new Set(toPlain(this.#model));
    const changed = toPlain(seen).filter((line) => !before.has(line));
    if (changed.length > 1) this.#report(`has changed more than it asked for: ${changed.join("; ")}`);
    this.#model = seen;
  }

  async #compare(): Promise<void> {
    const [seen, own] = [toPlain(await this.#read()), toPlain(this.#model)];
    const differing = [
      ...seen.filter((line) => !own.includes(line)).map((line) => `sees ${line}`),
      ...own.filter((line) => !seen.includes(line)).map((line) => `lacks ${line}`),
    ];
    if (differing.length > 0) this.#report(differing.join("; "));
  }

  /** Reads everything that the team can see: by lists, by counts and by searches. */
  async #read(): Promise<Model> {
    const model: Model = { stores: new Map(), files: new Set() };
    for (const file of (await this.#get("/files")).data) {
      model.files.add(file.id);
      if (file["filename"] !== `${this.#team.project}.txt`)
        this.#report(`sees the file ${String(file["filename"])}`);
    }
    for (const store of (await this.#get("/vector_stores")).data) {
      if (store["name"] !== this.#team.project) this.#report(`sees the store of ${String(store["name"])}`);
      const { data } = await this.#get(`/vector_stores/${store.id}/embeddings?limit=100`);
      const rows = new Map(data.map((row) => [row.id, row["content"] as string]));
      model.stores.set(store.id, rows);
      if (store["embedding_count"] !== rows.size)
        this.#report(
          `counts ${String(store["embedding_count"])} rows in ${store.id}, which has ${rows.size}`,
        );
      const found = await this.#get(`/vector_stores/${store.id}/search`, {
        query: "text of row",
        max_num_results: 50,
      });
      const texts = found.data.map((hit) => (hit["content"] as { text: string }[])[0]?.text ?? "");
      if (texts.toSorted().join() !== [...rows.values()].toSorted().join())
        this.#report(`finds ${texts.join()} in ${store.id}, which has ${[...rows.values()].join()}`);
    }
    for (const text of [...model.stores.values()].flatMap((rows) => [...rows.values()]))
      if (!text.startsWith(this.#team.project)) this.#report(`sees the text ${text}`);
    return model;
  }

  /** Asks until there is an answer: a kill cuts reads off too. */
  async #get(path: string, body?: unknown): Promise<Reply> {
    for (;;) {
      const { status, body: reply } = await this.#call(body === undefined ? "GET" : "POST", path, body);
      if (status === 200) return reply;
      if (!UNKNOWN.has(status)) throw new Error(`${path}: ${status} ${JSON.stringify(reply)}`);
      await delay(100);
    }
  }

  async #call(method: string, path: string, body?: unknown): Promise<Answer> {
    this.#trial.calls++;
    const isForm = body instanceof FormData;
    const type = typeof body === "string" ? "application/x-ndjson" : "application/json";
    try {
      const response = await fetch(`http://${await this.#ground.address()}/v1${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.#team.key}`,
          ...(body !== undefined && !isForm && { "content-type": type }),
        },
        ...(body !== undefined && { body: isForm || typeof body === "string" ? body : JSON.stringify(body) }),
      });
      return { status: response.status, body: (await response.json()) as Reply };
    } catch {
      // The connection was cut, before or after the call was done.
      return { status: 0, body: { id: "", data: [] } };
    }
  }

  #report(problem: string): void {
    this.#trial.problems.push(`${this.#team.project} ${problem}`);
  }
}

/** A model as lines of text, one for each thing that a team has. */
function toPlain({ stores, files }: Model): string[] {
  const rows = [...stores].flatMap(([store, texts]) => [
    `store ${store}`,
    ...[...texts].map(([id, text]) => `row ${store} ${id}: ${text}`),
  ]);
  return [...rows, ...[...files].map((id) => `file ${id}`)].toSorted();
}
