import { getOption, hasOption, type DescMessage, type DescMethod } from "@bufbuild/protobuf";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import { max_request_bytes } from "../../../gen/pgquiver/v1/options_pb.ts";
import { tooLarge } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { checkJson, checkJsonInSteps } from "./json-scan.ts";
import { checkProtobuf } from "./protobuf-scan.ts";
import { shapeOf } from "./shape.ts";

/** The limits of an RPC's request messages. */
export interface RequestLimits {
  /** Maximum size of a message, after decompression. */
  bytesMax: number;
  /** Counts a message before it is decoded; throws when it has too much. */
  check: (message: Uint8Array, form: "json" | "binary") => void;
  /** As `check` of JSON, in steps between which the event loop may turn; undefined: a body has few values. */
  checkJsonInSteps?: (message: Uint8Array) => Generator<void, void>;
}

/**
 * Reads the limits of an RPC from its descriptor. A message of a stream, most of which are rows and pieces of files, may
 * have `bytesMax` bytes, and no message may have more. `body` is the type of the message when that is only a field of
 * the request.
 */
export function requestLimits(
  method: DescMethod,
  bytesMax: number,
  body: DescMessage = method.input,
): RequestLimits {
  const isStream = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
  const own = hasOption(method, max_request_bytes)
    ? getOption(method, max_request_bytes)
    : limits.request_bytes_default;
  return {
    bytesMax: isStream ? bytesMax : Math.min(own, bytesMax),
    ...createChecks(body, bodyPrefix(method)),
  };
}

/** Errors name the fields of a message that is REST's body as if it were the request. */
function bodyPrefix(method: DescMethod): string {
  const body = hasOption(method, http) ? getOption(method, http).body : "";
  return body === "" || body === "*" ? "" : `${body}.`;
}

function createChecks(input: DescMessage, prefix: string): Omit<RequestLimits, "bytesMax"> {
  const shape = shapeOf(input);
  return {
    check: (message, form) =>
      form === "json" ? checkJson(message, shape, prefix) : checkProtobuf(message, shape, prefix),
    checkJsonInSteps: (message) => checkJsonInSteps(message, shape, prefix),
  };
}

/** RESOURCE_EXHAUSTED: a request message is larger than its RPC allows. */
export function messageTooLarge(bytesMax: number, bytes?: number) {
  const has = bytes === undefined ? `more than ${bytesMax}` : String(bytes);
  return tooLarge(`The request has ${has} bytes; ${bytesMax} are allowed.`);
}
