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

/** All protocols: the same expectations must hold for each of them. */
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
