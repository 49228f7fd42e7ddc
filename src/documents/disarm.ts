/**
 * Loaded first in a reading process. Takes functions away from JavaScript that no parser needs: those that
 * reach the network or signal other processes. Node's permission model leaves both open (the network as of
 * Node 24). A second line of defence only: machine code that a fault of Node lets in is stopped by the
 * namespaces of `isolation.ts`, where the platform has them, and not here.
 */
import dgram from "node:dgram";
import dns from "node:dns";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";

class AccessDeniedError extends Error {
  override name = "AccessDeniedError";
  readonly code = "ERR_ACCESS_DENIED";
}

function refuse(): never {
  throw new AccessDeniedError("Access to this API has been restricted: a reading process reaches nothing.");
}

function disarm(object: object, names: readonly string[]): void {
  for (const name of names) Object.defineProperty(object, name, { value: refuse });
}

/** The functions of an object, and of its prototype. */
function functionsOf(object: object): string[] {
  return Object.entries(Object.getOwnPropertyDescriptors(object))
    .filter(([name, { value }]) => typeof value === "function" && name !== "constructor")
    .map(([name]) => name);
}

// Every client, `fetch` and WebSocket included, connects through net.Socket.
disarm(net.Socket.prototype, ["connect"]);
disarm(net.Server.prototype, ["listen"]);
disarm(net, ["_createServerHandle"]);
disarm(dgram, functionsOf(dgram));
disarm(dgram.Socket.prototype, functionsOf(dgram.Socket.prototype));
disarm(dns.promises.Resolver.prototype, functionsOf(dns.promises.Resolver.prototype));
disarm(dns.Resolver.prototype, functionsOf(dns.Resolver.prototype));
disarm(dns.promises, functionsOf(dns.promises));
disarm(dns, functionsOf(dns));
disarm(process, ["kill", "_kill", "_debugProcess", "_debugEnd", "_linkedBinding"]);
syncBuiltinESMExports();

// A shell that launched Node has set PWD.
for (const name of Object.keys(process.env)) Reflect.deleteProperty(process.env, name);
