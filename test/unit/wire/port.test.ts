import { once } from "node:events";
import { Agent, get, globalAgent } from "node:http";
import type { IncomingMessage, RequestListener, Server, ServerResponse } from "node:http";
import { get as httpsGet, type RequestOptions as TlsRequestOptions } from "node:https";
import {
  connect as connectHttp2,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type OutgoingHttpHeaders,
} from "node:http2";
import { connect, createServer, type AddressInfo, type Server as NetServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import fastify from "fastify";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  createPortServer,
  createTlsPortServer,
  portDefaults,
  type PortOptions,
} from "../../../src/wire/port.ts";
import { certificate } from "../../support/servers/certificate.ts";

const host = "127.0.0.1";

async function listen(server: NetServer): Promise<number> {
  server.listen(0, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** A listening server that is ended with the test. */
async function serve(server: Server): Promise<{ server: Server; port: number }> {
  const port = await listen(server);
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { server, port };
}

const start = (handler: RequestListener, options: PortOptions = {}) =>
  serve(createPortServer(handler, options));
const startTls = (handler: RequestListener, options: PortOptions = {}) =>
  serve(createTlsPortServer(handler, { ...certificate, ...options }));

/** Answers with the version of HTTP and the request's body. */
async function echo(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request);
  response.end(`${request.httpVersion} ${request.method} ${body}`);
}
const echoHandler: RequestListener = (request, response) => {
  echo(request, response).catch(() => response.destroy());
};

/** A handler that answers when told to. */
function held(): { handler: RequestListener; arrived: Promise<void>; answer: () => void } {
  const arrived = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  const handler: RequestListener = (_request, response) => {
    arrived.resolve();
    void answered.promise.then(() => response.end("late"));
  };
  return { handler, arrived: arrived.promise, answer: answered.resolve };
}

function openSession(port: number, scheme: "http" | "https" = "http"): ClientHttp2Session {
  const session = connectHttp2(`${scheme}://${host}:${port}`, { ca: certificate.cert });
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  return session;
}

async function fetchHttp2(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders = {},
  body?: string,
): Promise<string> {
  const stream = session.request(headers, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  return text(stream);
}

async function fetchHttp1(port: number, agent = globalAgent): Promise<string> {
  const [response] = (await once(get({ host, port, agent }), "response")) as [IncomingMessage];
  return text(response);
}

async function openSocket(port: number): Promise<Socket> {
  const socket = connect(port, host);
  socket.on("error", () => {});
  onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, "connect");
  return socket;
}

/** Resolves when it is closed, by an error or without. */
async function closed(it: Socket | ClientHttp2Stream | ClientHttp2Session): Promise<void> {
  if ("resume" in it) it.resume();
  if (!it.destroyed) await new Promise<void>((resolve) => it.once("close", () => resolve()));
}

/** A proxy that passes what the client sends one byte at a time. */
async function startDripping(port: number): Promise<number> {
  const proxy = createServer((client) => {
    const upstream = connect({ port, host, noDelay: true });
    upstream.on("error", () => client.destroy()).pipe(client);
    client.on("error", () => upstream.destroy()).on("close", () => upstream.destroy());
    drip(client, upstream).catch(() => upstream.destroy());
  });
  onTestFinished(() => {
    proxy.close();
  });
  return listen(proxy);
}

async function drip(from: Socket, to: Socket): Promise<void> {
  for await (const chunk of from as AsyncIterable<Buffer>) {
    for (const byte of chunk) {
      to.write(Uint8Array.of(byte));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

describe("one cleartext port", () => {
  test("answers HTTP/1.1 and HTTP/2 with prior knowledge by one handler", async () => {
    const { port } = await start(echoHandler);
    expect(await fetchHttp1(port)).toBe("1.1 GET ");
    expect(await fetchHttp2(openSession(port))).toBe("2.0 GET ");
  });

  test("serves a Fastify app in both versions, and the app closes", async () => {
    const app = fastify({ serverFactory: (handler) => createPortServer(handler) });
    app.get("/version", (request) => ({ version: request.raw.httpVersion }));
    await app.listen({ host, port: 0 });
    const { port } = app.server.address() as AddressInfo;
    const session = openSession(port);
    expect(await fetchHttp2(session, { ":path": "/version" })).toBe('{"version":"2.0"}');
    expect(await (await fetch(`http://${host}:${port}/version`)).text()).toBe('{"version":"1.1"}');
    await app.close();
    await closed(session);
  });

  test("recognises the protocol of clients that send byte by byte", async () => {
    const { port } = await start(echoHandler);
    const slow = await startDripping(port);
    expect(await fetchHttp1(slow)).toBe("1.1 GET ");
    const reply = await fetch(`http://${host}:${slow}`, { method: "POST", body: "body" });
    expect(await reply.text()).toBe("1.1 POST body");
    expect(await fetchHttp2(openSession(slow), { ":method": "POST" }, "body")).toBe("2.0 POST body");
  });

  test("sleeps while a client has sent one byte of the preface", async () => {
    const { server, port } = await start(echoHandler, { greetingTimeoutMs: 200 });
    let wakeups = 0;
    server.on("connection", (socket) => {
      socket.on("readable", () => {
        if (++wakeups === 1_000) socket.destroy();
      });
    });
    const socket = await openSocket(port);
    socket.write("P");
    await closed(socket);
    expect(wakeups).toBeGreaterThan(0);
    expect(wakeups).toBeLessThan(10);
  });

  test.each(["", "P", "PR", "PRI * HTTP/2.0\r\n"])(
    "ends a client that falls silent after %j",
    async (head) => {
      const { port } = await start(echoHandler, { greetingTimeoutMs: 50 });
      const socket = await openSocket(port);
      socket.write(head);
      await closed(socket);
    },
  );

  test.each(["P", "PRI * HTTP/2.0\r\n"])("ends a client that closes its side after %j", async (head) => {
    const { port } = await start(echoHandler);
    const socket = await openSocket(port);
    socket.end(head);
    await closed(socket);
  });

  test.each(["\0\x01\x02\x03", "PRIVATE / HTTP/1.1\r\n\r\n".padEnd(64, "x"), "\r\n\r\n\r\n garbage\r\n\r\n"])(
    "ends a client that sends the garbage %j and goes on answering others",
    async (garbage) => {
      const { port } = await start(echoHandler);
      const socket = await openSocket(port);
      socket.write(garbage);
      await closed(socket);
      expect(await fetchHttp1(port)).toBe("1.1 GET ");
    },
  );

  test("survives clients that reset their connections", async () => {
    const { server, port } = await start(echoHandler);
    for (const head of [
      "",
      "P",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    ]) {
      const accepted = once(server, "connection") as Promise<[Socket]>;
      const client = await openSocket(port);
      client.write(head);
      const [socket] = await accepted;
      client.resetAndDestroy();
      await closed(socket);
    }
    expect(await fetchHttp2(openSession(port))).toBe("2.0 GET ");
  });

  test("drops connections beyond the limit", async () => {
    const { port } = await start(echoHandler, { connectionsMax: 1 });
    const session = openSession(port);
    await once(session, "remoteSettings");
    await closed(await openSocket(port));
    expect(await fetchHttp2(session)).toBe("2.0 GET ");
  });

  test("refuses headers beyond the limit in both versions", async () => {
    const { port } = await start(echoHandler, { headerBytesMax: 4_096 });
    const large = "x".repeat(5_000);
    const response = await fetch(`http://${host}:${port}`, { headers: { large } });
    expect(response.status).toBe(431);
    await response.text();
    const session = openSession(port);
    await once(session, "remoteSettings");
    await expect(fetchHttp2(session, { large })).rejects.toThrow();
    expect(await fetchHttp2(openSession(port))).toBe("2.0 GET ");
  });
});

describe.each([
  ["cleartext", start, "http"],
  ["TLS", startTls, "https"],
] as const)("HTTP/2 sessions over %s", (_name, startServer, scheme) => {
  test("have raised windows and bounded streams", async () => {
    const { port } = await startServer(echoHandler);
    const session = openSession(port, scheme);
    expect(await fetchHttp2(session)).toBe("2.0 GET ");
    expect(session.remoteSettings.initialWindowSize).toBe(portDefaults.streamWindowBytes);
    expect(session.remoteSettings.maxConcurrentStreams).toBe(portDefaults.streamsMax);
    expect(session.remoteSettings.maxHeaderListSize).toBe(portDefaults.headerBytesMax);
    expect(session.state.remoteWindowSize).toBe(portDefaults.sessionWindowBytes);
  });

  test("end the stream of an upload whose response is complete, with the response intact", async () => {
    const { port } = await startServer((request, response) => {
      request.resume();
      response.writeHead(400).end("row 7 is wrong");
    });
    const session = openSession(port, scheme);
    for (let upload = 0; upload < 25; upload++) {
      const stream = session.request({ ":method": "POST" }, { endStream: false });
      stream.write("a part of an upload");
      let body = "";
      stream.on("data", (chunk: Buffer) => (body += chunk.toString()));
      const [headers] = (await once(stream, "response")) as [{ ":status": number }];
      await closed(stream);
      expect(headers[":status"]).toBe(400);
      expect(body).toBe("row 7 is wrong");
      expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
    }
  });

  test("end when idle, but not while a stream is open", async () => {
    const { handler, arrived, answer } = held();
    const { port } = await startServer(handler, { idleTimeoutMs: 50 });
    const busy = openSession(port, scheme);
    const reply = fetchHttp2(busy);
    await arrived;
    const idle = openSession(port, scheme);
    await once(idle, "remoteSettings");
    await closed(idle);
    answer();
    expect(await reply).toBe("late");
    await closed(busy);
  });

  test("end a client that opens and resets streams without end", async () => {
    const { port } = await startServer((request, response) => {
      if (request.method === "GET") response.end("still here");
      else response.writeHead(200).flushHeaders();
    });
    const session = openSession(port, scheme);
    await once(session, "remoteSettings");
    let resets = 0;
    while (!session.closed && !session.destroyed && resets < 10_000) {
      const stream = session.request({ ":method": "POST" }, { endStream: false });
      await new Promise((resolve) => stream.once("response", resolve).on("error", resolve));
      stream.close(constants.NGHTTP2_CANCEL);
      resets++;
    }
    expect(resets).toBeGreaterThan(190);
    expect(resets).toBeLessThan(2_000);
    expect(await fetchHttp2(openSession(port, scheme))).toBe("still here");
  });

  test("let open streams finish when the server closes, and take no new ones", async () => {
    const { handler, arrived, answer } = held();
    const { server, port } = await startServer(handler);
    const session = openSession(port, scheme);
    const reply = fetchHttp2(session);
    await arrived;
    const goaway = once(session, "goaway");
    const serverClosed = new Promise((resolve) => server.close(resolve));
    await goaway;
    expect(session.closed).toBe(true);
    answer();
    expect(await reply).toBe("late");
    expect(await serverClosed).toBeUndefined();
  });

  test("end at once with closeAllConnections, as all other connections do", async () => {
    const { handler, arrived } = held();
    const { server, port } = await startServer(handler);
    const session = openSession(port, scheme);
    const stream = session.request({});
    stream.on("error", () => {});
    await arrived;
    const silent = await openSocket(port);
    server.close();
    server.closeAllConnections();
    await Promise.all([closed(stream), closed(session), closed(silent), once(server, "close")]);
  });
});

describe("closing", () => {
  test("ends idle sessions, kept connections and undecided sockets", async () => {
    const { server, port } = await start(echoHandler);
    const agent = new Agent({ keepAlive: true });
    onTestFinished(() => agent.destroy());
    expect(await fetchHttp1(port, agent)).toBe("1.1 GET ");
    const session = openSession(port);
    await once(session, "remoteSettings");
    const accepted = once(server, "connection");
    const undecided = await openSocket(port);
    undecided.write("PR");
    await accepted;
    expect(await new Promise((resolve) => server.close(resolve))).toBeUndefined();
    await Promise.all([closed(session), closed(undecided)]);
  });

  test("does not wait for a next request on the connection of one that ends after it", async () => {
    const { handler, arrived, answer } = held();
    const { server, port } = await start(handler, { keepAliveTimeoutMs: 600_000 });
    const agent = new Agent({ keepAlive: true });
    onTestFinished(() => agent.destroy());
    const reply = fetchHttp1(port, agent);
    await arrived;
    const serverClosed = new Promise((resolve) => server.close(resolve));
    answer();
    expect(await reply).toBe("late");
    expect(await serverClosed).toBeUndefined();
  });
});

describe("one TLS port", () => {
  test("answers the version chosen by ALPN", async () => {
    const { port } = await startTls(echoHandler);
    const session = openSession(port, "https");
    expect(await fetchHttp2(session)).toBe("2.0 GET ");
    expect(session.alpnProtocol).toBe("h2");
    for (const ALPNProtocols of [["http/1.1"], []]) {
      const options: TlsRequestOptions & ConnectionOptions = {
        host,
        port,
        ca: certificate.cert,
        ALPNProtocols,
      };
      const request = httpsGet({ ...options, agent: false });
      const [response] = (await once(request, "response")) as [IncomingMessage];
      expect(await text(response)).toBe("1.1 GET ");
    }
  });

  test("ends clients that do not finish the handshake", async () => {
    const { port } = await startTls(echoHandler, { greetingTimeoutMs: 50 });
    const silent = await openSocket(port);
    const plain = await openSocket(port);
    plain.write("GET / HTTP/1.1\r\n\r\n");
    await Promise.all([closed(silent), closed(plain)]);
  });

  test("ends a client that finishes the handshake after the server has closed", async () => {
    const { server, port } = await startTls(echoHandler);
    const accepted = once(server, "connection");
    const socket = await openSocket(port);
    await accepted;
    const serverClosed = new Promise((resolve) => server.close(resolve));
    await closed(connectTls({ socket, ca: certificate.cert }).on("error", () => {}));
    expect(await serverClosed).toBeUndefined();
  });
});
