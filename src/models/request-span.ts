import { traced } from "../tracing.ts";
import type { Embeddings } from "./embedder.ts";

/** Sends a request to an embedding provider in a span of OpenTelemetry's conventions for generative AI. */
export async function traceRequest(
  baseUrl: string,
  model: string,
  send: () => Promise<Embeddings>,
): Promise<Embeddings> {
  const describe = () => {
    const { hostname, port, protocol } = new URL(baseUrl);
    const attributes = {
      "gen_ai.operation.name": "embeddings",
      "gen_ai.provider.name": "openai",
      "gen_ai.request.model": model,
      "server.address": hostname,
      "server.port": Number(port) || (protocol === "https:" ? 443 : 80),
    };
    return { kind: "client" as const, attributes };
  };
  return traced(`embeddings ${model}`, describe, async (span) => {
    const embeddings = await send();
    span?.set({
      "gen_ai.usage.input_tokens": embeddings.tokens,
      "gen_ai.embeddings.dimension.count": embeddings.vectors[0]?.length ?? 0,
    });
    return embeddings;
  });
}
