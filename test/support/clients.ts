import type { Protocol } from "./client.ts";
import {
  connectOverHttp1,
  connectOverHttp2,
  grpcByConnect,
  grpcWebByFetch,
  grpcWebOverHttp2,
} from "./connect-client.ts";
import { grpcByGrpcJs } from "./grpc-client.ts";
import { restOverHttp1, restOverHttp2 } from "./rest-client.ts";

/** Every way to reach the service: one expectation must hold for all of them. */
export const protocols: Protocol[] = [
  restOverHttp1,
  restOverHttp2,
  grpcByGrpcJs,
  grpcByConnect,
  connectOverHttp1,
  connectOverHttp2,
  grpcWebByFetch,
  grpcWebOverHttp2,
];
