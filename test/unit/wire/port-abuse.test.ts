import { once } from "node:events";
import { connect as connectHttp2, constants, type ClientHttp2Session } from "node:http2";
import { connect, type AddressInfo, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { createPortServer, type PortOptions } from "../../../src/wire/port.ts";

/** Starts a server that counts the requests that reach its handler. */
async function start(options: PortOptions = {}) {
  const handled: string[] = [];
  const server = createPortServer((request, response) => {
    handled.push(request.url ?? "");
    response.end("ok");
  }, options);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { server, handled, port: (server.address() as AddressInfo).port };
}

async function open(port: number, host = "127.0.0.1", localAddress = "127.0.0.1"): Promise<Socket> {
  const socket = connect({ port, host, localAddress });
  socket.on("error", () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, "connect");
  return socket;
}

const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const GOAWAY = 7;

function frame(type: number, flags: number, stream: number, payload: readonly number[] = []): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, Buffer.from(payload)]);
}

const preface = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(SETTINGS, 0, 0)]);
/** HPACK of `:method GET`, `:scheme http`, `:path /` and `:authority a`. */
const get = [0x82, 0x86, 0x84, 0x01, 1, 0x61];

/** Opens and resets streams, all in one write. */
function rapidReset(streams: number): Buffer {
  const CANCEL = [0, 0, 0, 8];
  const frames = Array.from({ length: streams }, (_, index) => [
    frame(HEADERS, 5, 2 * index + 1, get),
    frame(RST_STREAM, 0, 2 * index + 1, CANCEL),
  ]);
  return Buffer.concat([preface, ...frames.flat()]);
}

/** Sends the preface, and waits for the server's. Returns what is received, then and later. */
async function greet(socket: Socket): Promise<Buffer[]> {
  const received: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => received.push(chunk)).write(preface);
  await expect.poll(() => received.length).toBeGreaterThan(0);
  return received;
}

/** Whether a GOAWAY is among the frames. */
function hasGoaway(bytes: Buffer): boolean {
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3))
    if (bytes[at + 3] === GOAWAY) return true;
  return false;
}

test("the end of an empty body that arrives with its headers is not lost", async () => {
  const ended: string[] = [];
  const server = createPortServer((request, response) => {
    request.resume().once("end", () => {
      ended.push(request.url ?? "");
      response.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const socket = await open((server.address() as AddressInfo).port);
  await greet(socket);
  const [END_HEADERS, END_STREAM, DATA] = [4, 1, 0];
  socket.write(Buffer.concat([frame(HEADERS, END_HEADERS, 1, get), frame(DATA, END_STREAM, 1)]));
  await expect.poll(() => ended).toEqual(["/"]);
});

test("a stream that is reset with the bytes that open it costs no request", async () => {
  const { handled, port } = await start();
  const socket = await open(port);
  const last = frame(HEADERS, 5, 1_001, get);
  socket.write(Buffer.concat([rapidReset(150), last]));
  await expect.poll(() => handled.length).toBeGreaterThan(0);
  expect(handled.length).toBeLessThan(20);
});

test("nor does one that is reset by bytes which arrive after the preface", async () => {
  const { handled, port } = await start();
  const socket = await open(port);
  await greet(socket);
  socket.write(Buffer.concat([rapidReset(150).subarray(preface.length), frame(HEADERS, 5, 1_001, get)]));
  await expect.poll(() => handled.length).toBeGreaterThan(0);
  expect(handled.length).toBeLessThan(20);
});

test("a client that does so after the preface gets GOAWAY", async () => {
  const { handled, port } = await start({ streamResetBurst: 50, streamResetRate: 10 });
  const socket = await open(port);
  const received = await greet(socket);
  socket.write(rapidReset(1_000).subarray(preface.length));
  await once(socket, "close");
  expect(hasGoaway(Buffer.concat(received))).toBe(true);
  expect(handled.length).toBeLessThan(20);
});

test("connections of an address that were open before its penalty end when they reset streams, too", async () => {
  const { port } = await start({ streamResetBurst: 50, streamResetRate: 10, abusiveConnectionsMax: 1 });
  const attacker = "127.0.0.2";
  const address = ["127.0.0.1", attacker] as const;
  const sockets = await Promise.all([1, 2, 3, 4].map(() => open(port, ...address)));
  await Promise.all(sockets.map(greet));
  const [first, second, third, quiet] = sockets as [Socket, Socket, Socket, Socket];
  for (const socket of [first, second]) {
    socket.write(rapidReset(100).subarray(preface.length));
    await once(socket, "close");
  }
  third.write(rapidReset(30).subarray(preface.length));
  await once(third, "close");
  expect(quiet.destroyed).toBe(false);
});

test("a client that resets more streams than streamResetBurst gets GOAWAY, and others are answered", async () => {
  const { port } = await start({ streamResetBurst: 50, streamResetRate: 10 });
  const socket = await open(port);
  const received: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => received.push(chunk));
  socket.write(rapidReset(1_000));
  await once(socket, "close");
  expect(hasGoaway(Buffer.concat(received))).toBe(true);
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  onTestFinished(() => session.destroy());
  expect(await text(session.request({}))).toBe("ok");
});

test("an address that does so on connection after connection gets no new one for a while", async () => {
  const { port } = await start({
    streamResetBurst: 50,
    streamResetRate: 10,
    abusiveConnectionsMax: 2,
    abuseWindowMs: 1_500,
  });
  const attacker = "127.0.0.2";
  const open1 = await open(port, "127.0.0.1", attacker);
  for (let round = 0; round < 3; round++) {
    const socket = await open(port, "127.0.0.1", attacker);
    socket.resume().write(rapidReset(500));
    await once(socket, "close");
  }
  const bytes = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  const ask = async (localAddress: string) => {
    const socket = await open(port, "127.0.0.1", localAddress);
    socket.write(bytes);
    return text(socket).catch(() => "");
  };
  expect(await ask(attacker)).toBe("");
  expect(await ask("127.0.0.1")).toMatch(/ok$/);
  open1.write(bytes);
  expect(await text(open1)).toMatch(/ok$/);
  await expect.poll(async () => ask(attacker), { interval: 200 }).toMatch(/ok$/);
});

test("connections of one address beyond its limit are closed, those of others are not", async () => {
  const { port } = await start({ connectionsPerAddressMax: 2 });
  const first = await open(port);
  await open(port);
  const third = await open(port);
  third.resume();
  await once(third, "close");
  const request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  const other = await open(port, "127.0.0.1", "127.0.0.2");
  other.write(request);
  expect(await text(other)).toMatch(/ok$/);
  first.write(request);
  expect(await text(first)).toMatch(/ok$/);
  const again = await open(port);
  again.write(request);
  expect(await text(again)).toMatch(/ok$/);
});

test("HTTP/2 streams of one address beyond its limit are refused, over all its connections, and others' are not", async () => {
  const server = createPortServer(
    (request, response) => {
      if (request.url === "/quick") response.end("ok");
    },
    { streamsPerAddressMax: 4, streamsTotalMax: 5 },
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const openSession = (localAddress: string) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress });
    const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => socket });
    session.on("error", () => {});
    onTestFinished(() => session.destroy());
    return session;
  };
  const request = (session: ClientHttp2Session, path = "/slow") => {
    const stream = session.request({ ":path": path });
    stream.on("error", () => {});
    return stream;
  };
  const first = openSession("127.0.0.1");
  const held = [request(first), request(first)];
  const second = openSession("127.0.0.1");
  held.push(request(second), request(second));
  await Promise.all([once(first, "remoteSettings"), once(second, "remoteSettings")]);
  const refused = async (session: ClientHttp2Session) => {
    const stream = request(session, "/quick").resume();
    await new Promise((resolve) => stream.once("close", resolve));
    return stream.rstCode;
  };
  await expect.poll(async () => refused(second)).toBe(constants.NGHTTP2_REFUSED_STREAM);
  const other = openSession("127.0.0.2");
  expect(await text(request(other, "/quick"))).toBe("ok");
  // All places are taken now.
  request(other);
  await expect.poll(async () => refused(openSession("127.0.0.3"))).toBe(constants.NGHTTP2_REFUSED_STREAM);
  for (const stream of held) stream.close();
  await expect.poll(async () => refused(second)).toBe(constants.NGHTTP2_NO_ERROR);
});

test("an old connection ends after its open requests, over HTTP/2 and HTTP/1.1", async () => {
  const server = createPortServer((_request, response) => void setTimeout(() => response.end("ok"), 100), {
    connectionAgeMaxMs: 50,
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  const ended = once(session, "goaway") as Promise<[number]>;
  expect(await text(session.request({}))).toBe("ok");
  expect((await ended)[0]).toBe(0);

  const socket = await open(port);
  const get1 = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  socket.write(get1);
  await once(socket, "data");
  socket.write(get1);
  expect(await text(socket)).toMatch(/Connection: close[^]*ok/);
});

test("an HTTP/2 connection ends after its number of streams, none of which is lost", async () => {
  const server = createPortServer((_request, response) => void response.end("ok"), {
    streamsPerSessionMax: 10,
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const ended = once(session, "goaway") as Promise<[number]>;
  for (let number = 1; number < 10; number++) expect(await text(session.request({}))).toBe("ok");
  expect(session.closed).toBe(false);
  expect(await text(session.request({}))).toBe("ok");
  expect((await ended)[0]).toBe(constants.NGHTTP2_NO_ERROR);
});

test("a GOAWAY with an error in the same bytes as a stream ends that session and nothing else", async () => {
  const { port } = await start();
  const CANCEL = [0, 0, 0, 8];
  const socket = await open(port);
  const ended = once(socket, "close");
  socket.resume();
  socket.write(
    Buffer.concat([preface, frame(HEADERS, 5, 1, get), frame(GOAWAY, 0, 0, [0, 0, 0, 0, ...CANCEL])]),
  );
  await ended;
  // An error event of the stream without a listener would have been an uncaught exception, which fails the test.
  const reply = await fetch(`http://127.0.0.1:${port}`);
  expect(await reply.text()).toBe("ok");
});
