import type { Command } from "commander";
import {
  AccessService,
  CallerSchema,
  LimitsSchema,
  type Caller,
} from "../../../gen/pgquiver/v1/access_pb.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { formatTime, printJson } from "../output.ts";

/** Adds the command that says what the key may do. */
export function addWhoami(program: Command): void {
  program
    .command("whoami")
    .description("say what the key may do, and what its project uses of its quotas")
    .action(async () => {
      const options = program.opts<GlobalOptions>();
      const caller = await new Connection(options).client(AccessService).getCaller({});
      if (options.json === true) printJson(CallerSchema, caller);
      else for (const [name, value] of describe(caller)) process.stdout.write(`${name.padEnd(9)}${value}\n`);
    });
}

function describe(caller: Caller): [string, string][] {
  const { kind, id, name, projectId, projectName, quotas } = caller;
  const stores = caller.allStores ? "all" : caller.storeIds.join(" ") || "none";
  const own = describeLimits(caller.limits);
  return [
    ["caller", [kind.replace("_", " "), id, name && `(${name})`].filter(Boolean).join(" ")],
    ["project", `${projectId} (${projectName})`],
    ["scopes", caller.scopes.join(" ") || "none"],
    ["stores", stores],
    ...(kind === "token" ? [["readers", caller.readers.join(" ") || "none"] as [string, string]] : []),
    ["expires", caller.expiresAt === undefined ? "never" : `${formatTime(caller.expiresAt)} UTC`],
    ["limits", [...own, ...describeLimits(caller.projectLimits, "project's ")].join(", ") || "none"],
    ...quotas
      .filter(({ max }) => max !== undefined)
      .map((quota): [string, string] => ["quota", `${quota.name}: ${quota.used ?? "?"} of ${quota.max}`]),
  ];
}

function describeLimits(limits: Caller["limits"], whose = ""): string[] {
  return LimitsSchema.fields
    .map(({ name, localName }) => [name, limits?.[localName as "maxFileWorkers"]] as const)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${whose}${name} ${value}`);
}
