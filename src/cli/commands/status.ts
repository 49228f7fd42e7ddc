import type { Command } from "commander";
import { Health, HealthCheckResponse_ServingStatus } from "../../../gen/health/v1/health_pb.ts";
import { ModelService } from "../../../gen/pgquiver/v1/models_pb.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { Failed } from "../exit.ts";

/** Adds the command that says whether the service is ready, and what embeds its texts. */
export function addStatus(program: Command): void {
  program
    .command("status")
    .description("say whether the service is ready, and which model embeds texts")
    .action(async () => {
      const options = program.opts<GlobalOptions>();
      const connection = new Connection(options);
      const { status } = await connection.client(Health).check({});
      const isReady = status === HealthCheckResponse_ServingStatus.SERVING;
      const { data } = await connection.client(ModelService).listModels({});
      const models = data.map(({ id }) => id);
      if (options.json === true)
        process.stdout.write(`${JSON.stringify({ url: options.url, ready: isReady, models })}\n`);
      else
        process.stdout.write(
          `${options.url} is ${isReady ? "ready" : "not ready"}; texts are embedded by ${models.join(", ")}\n`,
        );
      if (!isReady)
        throw new Failed("The service answers, and is not ready: its log and `pgquiver doctor` say why.");
    });
}
