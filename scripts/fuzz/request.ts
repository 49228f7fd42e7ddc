/** One request as it goes over HTTP. */
export interface HttpRequest {
  /** Such as `Connect JSON`; gRPC goes over HTTP/2 only. */
  protocol: string;
  /** Such as `SearchService/Search`. */
  rpc: string;
  verb: string;
  /** Path and query. */
  path: string;
  headers: Record<string, string>;
  body: Buffer;
  /** Whether the body is one JSON value. */
  isJson: boolean;
  /** False: the request is as a client would send it. */
  isMutated: boolean;
}
