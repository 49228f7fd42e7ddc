import { expect, test } from "vitest";
import { variables } from "../../../src/settings/variables.ts";
import { findMisspelled } from "../../../src/settings/misspelled.ts";

test.each([
  ["EMBEDDING_MODEL", "EMBEDDING__MODEL"],
  ["EMBEDDING__MODELL", "EMBEDDING__MODEL"],
  ["embedding_model", "EMBEDDING__MODEL"],
  ["EMBEDDING__URL", "EMBEDDING__BASE_URL"],
  ["EMBEDDING__API_BASE_URL", "EMBEDDING__BASE_URL"],
  ["SERVER_API_KEYS", "SERVER_API_KEY"],
  ["DATABASE_URI", "DATABASE_URL"],
  ["DATABSE_URL", "DATABASE_URL"],
  ["FILES_WORKER", "FILE_WORKERS"],
  ["LOGLEVEL", "LOG_LEVEL"],
  ["OPENAI_BASE_URL", "EMBEDDING__BASE_URL"],
  ["OPENAI_API_BASE", "EMBEDDING__BASE_URL"],
])("%s was probably to be %s", (name, meant) => {
  expect(findMisspelled({ [name]: "x", PATH: "/bin" })).toEqual([{ name, meant }]);
});

test("variables of the service, in either case, are none", () => {
  const names = Object.keys(variables.shape);
  expect(findMisspelled(Object.fromEntries(names.map((name) => [name, "x"])))).toEqual([]);
  expect(findMisspelled(Object.fromEntries(names.map((name) => [name.toLowerCase(), "x"])))).toEqual([]);
});

test("variables of an ordinary environment, a container's and another program's are none", () => {
  const names =
    "HOME HOSTNAME HOSTS POST PORTS PATH PWD USER SHELL TERM LANG LOGNAME NODE_ENV NODE_VERSION NODE_OPTIONS npm_config_cache " +
    "PGHOST PGPASSWORD POSTGRES_URL POSTGRES_DB DATABASE_HOST DATABASE_NAME REDIS_URL S3_BUCKET_URL AWS_ACCESS_KEY_ID " +
    "KUBERNETES_SERVICE_HOST KUBERNETES_PORT_443_TCP EMBEDDING_SERVICE_HOST EMBEDDING_PORT OPENAI_ORG_ID TEST_DATABASE_URL " +
    "PGQUIVER_PORT LC_ALL SSH_AUTH_SOCK XDG_RUNTIME_DIR HTTPS_PROXY NO_COLOR";
  expect(findMisspelled(Object.fromEntries(names.split(" ").map((name) => [name, "x"])))).toEqual([]);
});

test("a variable of OpenAI's clients is none where its counterpart is set, nor is one that is set to nothing", () => {
  expect(findMisspelled({ OPENAI_BASE_URL: "x", EMBEDDING__BASE_URL: "y" })).toEqual([]);
  expect(findMisspelled({ SERVER_API_KEYS: "" })).toEqual([]);
});
