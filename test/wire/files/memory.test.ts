import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { json } from "node:stream/consumers";
import { expect, inject, onTestFinished, test } from "vitest";
import { startService } from "../../../scripts/crash/service.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { FORM_TYPE, filePart, form, textPart } from "../../support/clients/form.ts";
import { noise } from "../../support/stores/noise.ts";

const MIB = 1024 * 1024;
/** What the service may take beyond what it takes idle: the garbage collector leaves most of it lying about. */
const ALLOWANCE_BYTES = 128 * MIB;

/** Most memory a process has ever had, as Linux counts it. */
async function peakOf(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s*(\d+) kB/m.exec(text)?.[1]) * 1024;
}

// The embedded database is in the process itself.
test.runIf(inject("template").kind === "postgres")(
  "a file larger than the memory allowed goes in and comes out, and slow readers take little",
  async () => {
    const database = await openTestDatabase();
    onTestFinished(() => database.close());
    const service = await startService({ DATABASE_URL: String(database.url) });
    onTestFinished(() => service.end("SIGKILL"));
    const idleBytes = await peakOf(service.process.pid);
    const url = `http://${service.address}/v1/files`;

    const piece = noise(MIB);
    const pieces = 160;
    const [head, tail] = splitForm();
    const call = request(url, { method: "POST", headers: FORM_TYPE });
    call.write(head);
    for (let index = 0; index < pieces; index++) if (!call.write(piece)) await once(call, "drain");
    call.end(tail);
    const [reply] = (await once(call, "response")) as [IncomingMessage];
    const file = (await json(reply)) as { id: string; bytes: number };
    expect(file.bytes).toBe(pieces * MIB);

    const { hostname, port } = new URL(url);
    for (let reader = 0; reader < 50; reader++) {
      const socket = connect(Number(port), hostname);
      onTestFinished(() => void socket.destroy());
      socket.write(`GET /v1/files/${file.id}/content HTTP/1.1\r\nhost: x\r\n\r\n`);
      await once(socket, "readable");
    }
    let bytes = 0;
    const content = await fetch(`${url}/${file.id}/content`);
    for await (const chunk of content.body ?? []) bytes += chunk.length;
    expect(bytes).toBe(file.bytes);
    expect((await peakOf(service.process.pid)) - idleBytes).toBeLessThan(ALLOWANCE_BYTES);
  },
  300_000,
);

/** What comes before and after a file's bytes. */
function splitForm(): [Buffer, Buffer] {
  const whole = form(filePart("@"), textPart("purpose", "assistants"));
  const at = whole.indexOf("@");
  return [whole.subarray(0, at), whole.subarray(at + 1)];
}
