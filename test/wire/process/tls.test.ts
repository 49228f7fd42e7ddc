import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import { fastify } from "fastify";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { readCertificates, watchCertificates } from "../../../src/wire/certificates.ts";
import { createTlsPortServer } from "../../../src/wire/port.ts";
import { certificate, renewedCertificate } from "../../support/servers/certificate.ts";
import { startServer } from "../../support/servers/server.ts";

const folder = mkdtempSync(join(tmpdir(), "pgquiver-tls-"));
afterAll(() => rmSync(folder, { recursive: true }));
const files = {
  cert: join(folder, "cert.pem"),
  key: join(folder, "key.pem"),
  clientCa: join(folder, "ca.pem"),
};
const write = ({ cert, key }: typeof certificate) => {
  writeFileSync(files.key, key);
  writeFileSync(files.cert, cert);
};
write(certificate);
writeFileSync(files.clientCa, certificate.cert);

/** Asks for /livez over TLS. Resolves with the status line and the name in the server's certificate. */
async function ask(port: number, options: ConnectionOptions): Promise<{ status: string; name: string }> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connect(
      { port, host: "127.0.0.1", rejectUnauthorized: false, ...options },
      () => {
        socket.write("GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
      },
    );
    socket.once("data", (data) => {
      resolve({
        status: data.toString().split("\r\n", 1)[0] ?? "",
        name: String(socket.getPeerCertificate().subject.CN),
      });
      socket.destroy();
    });
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed without an answer")));
  });
}

test("with TLS_CLIENT_CA_FILE only clients whose certificate it signed get an answer", async () => {
  await using server = await startServer({ tls: files });
  const port = Number(new URL(server.url).port);
  expect(await ask(port, certificate)).toEqual({ status: "HTTP/1.1 200 OK", name: "localhost" });
  await expect(ask(port, {})).rejects.toThrow();
  await expect(ask(port, renewedCertificate)).rejects.toThrow();
});

test("TLS older than 1.2 is refused", async () => {
  await using server = await startServer({ tls: { ...files, clientCa: undefined } });
  const port = Number(new URL(server.url).port);
  expect((await ask(port, { maxVersion: "TLSv1.2" })).status).toBe("HTTP/1.1 200 OK");
  await expect(ask(port, { minVersion: "TLSv1", maxVersion: "TLSv1.1" })).rejects.toThrow();
});

test("a renewed certificate is taken into use without a restart, and a broken one is not", async () => {
  const tls = { ...files, clientCa: undefined };
  const app = fastify({ serverFactory: (handler) => createTlsPortServer(handler, readCertificates(tls)) });
  app.get("/livez", async () => "ok");
  await app.listen({ host: "127.0.0.1", port: 0 });
  const lines: string[] = [];
  const log = { info: (line: string) => lines.push(line), error: (line: string) => lines.push(line) };
  const unwatch = watchCertificates(app.server as never, tls, log as never, 20);
  onTestFinished(async () => {
    unwatch();
    await app.close();
    write(certificate);
  });
  const { port } = app.server.address() as { port: number };
  expect((await ask(port, {})).name).toBe("localhost");
  write(renewedCertificate);
  await expect.poll(async () => (await ask(port, {})).name).toBe("renewed");
  writeFileSync(files.cert, "no certificate");
  await expect.poll(() => lines.at(-1)).toContain("cannot be used, the old one stays");
  expect((await ask(port, {})).name).toBe("renewed");
});
