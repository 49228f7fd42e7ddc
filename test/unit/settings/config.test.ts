import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { certificate, renewedCertificate } from "../../support/servers/certificate.ts";
import { readConfig, readLogConfig } from "../../../src/config.ts";
import { variables } from "../../../src/settings/variables.ts";

const directory = mkdtempSync(join(tmpdir(), "pgquiver-config-"));
afterAll(() => rmSync(directory, { recursive: true }));

test("an empty environment serves on loopback, embedded, without a key", () => {
  expect(readConfig({})).toMatchObject({
    listen: { host: "127.0.0.1", port: 8000, tls: undefined },
    apiKeys: [],
    requiresKeys: false,
    corsOrigins: [],
    requestBytesMax: 33_554_432,
    expiry: { sweepSeconds: 60, graceSeconds: 86_400, auditDays: 90 },
    audit: { includesReads: false },
    shutdown: { delayMs: 0, graceMs: 20_000 },
    databaseWaitMs: 60_000,
    database: { url: undefined, directory: ".pgquiver", poolMax: 10, statementTimeoutMs: 60_000 },
    embedding: undefined,
  });
});

describe("OpenTelemetry", () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" };
  const read = (more: Record<string, string>) => readConfig({ ...endpoint, ...more }).telemetry;

  test("is off without an endpoint, and where it is turned off", () => {
    expect(readConfig({}).telemetry).toBeUndefined();
    expect(read({ OTEL_SDK_DISABLED: "true" })).toBeUndefined();
    expect(read({ OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" })).toBeUndefined();
  });

  test("sends what has an endpoint, by the sampler of its variables", () => {
    expect(read({})).toMatchObject({
      sendsTraces: true,
      sendsMetrics: true,
      sampler: "parentbased_always_on",
      spansMax: 2_048,
    });
    const traces = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://collector:4318/v1/traces" };
    const sampling = { OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.25" };
    expect(readConfig({ ...traces, ...sampling }).telemetry).toMatchObject({
      sendsTraces: true,
      sendsMetrics: false,
      sampler: "traceidratio",
      samplerRatio: 0.25,
    });
  });

  test.each([
    ["OTEL_TRACES_SAMPLER", "xray"],
    ["OTEL_TRACES_SAMPLER_ARG", "2"],
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"],
  ])("%s=%s is refused", (name, value) => {
    expect(() => read({ [name]: value })).toThrow(`${name}: expected`);
  });
});

test("a variable set to nothing is not set", () => {
  const empty = Object.fromEntries(Object.keys(variables.shape).map((name) => [name, " "]));
  expect(readConfig(empty)).toEqual(readConfig({}));
});

test("takes litellm-pgvector's variables as they are", () => {
  const config = readConfig({
    DATABASE_URL: "postgresql://u:p@db:5432/name?schema=public",
    OPENAI_API_KEY: "sk-1",
    HOST: "0.0.0.0",
    PORT: "9000",
    EMBEDDING__MODEL: "openai/text-embedding-3-small",
    EMBEDDING__BASE_URL: "http://localhost:4000",
    EMBEDDING__API_KEY: "sk-2",
    EMBEDDING__DIMENSIONS: "1536",
    DB_FIELDS__ID_FIELD: "doc_id",
    DB_FIELDS__CONTENT_FIELD: "text",
    DB_FIELDS__METADATA_FIELD: "meta",
    DB_FIELDS__EMBEDDING_FIELD: "vec",
    DB_FIELDS__VECTOR_STORE_ID_FIELD: "store",
    DB_FIELDS__CREATED_AT_FIELD: "made",
  });
  expect(config).toMatchObject({
    listen: { host: "0.0.0.0", port: 9000 },
    apiKeys: ["sk-1"],
    requiresKeys: true,
    database: {
      url: "postgresql://u:p@db:5432/name?schema=public",
      names: {
        fields: {
          id: "doc_id",
          content: "text",
          metadata: "meta",
          embedding: "vec",
          vectorStoreId: "store",
          createdAt: "made",
        },
      },
    },
    embedding: {
      model: "openai/text-embedding-3-small",
      baseUrl: "http://localhost:4000",
      apiKey: "sk-2",
      dimensions: 1536,
    },
  });
});

test("takes names in lower case too, upper case first", () => {
  expect(readConfig({ server_api_key: "low", port: "1" })).toMatchObject({
    apiKeys: ["low"],
    requiresKeys: true,
    listen: { port: 1 },
  });
  expect(readConfig({ PORT: "2", port: "1" }).listen.port).toBe(2);
});

describe("the log", () => {
  test("is made from what is valid, so that it can tell of the rest", () => {
    expect(readLogConfig({})).toEqual({ level: "info", format: "auto", isTraced: false });
    expect(readLogConfig({ log_level: "DEBUG", LOG_FORMAT: "json" })).toEqual({
      level: "debug",
      format: "json",
      isTraced: false,
    });
    expect(readLogConfig({ LOG_LEVEL: "loud", LOG_FORMAT: "xml", PORT: "x" })).toEqual(readLogConfig({}));
  });
});

describe("keys", () => {
  test("are separated by commas and come from both names, each once", () => {
    expect(readConfig({ SERVER_API_KEY: "a, b,,a", OPENAI_API_KEY: "b,c " }).apiKeys).toEqual([
      "a",
      "b",
      "c",
    ]);
  });

  test.each([
    [{}, "127.0.0.1", false],
    [{ HOST: "0.0.0.0" }, "0.0.0.0", true],
    [{ HOST: "db.example.org" }, "db.example.org", true],
    [{ HOST: "127.0.0.2" }, "127.0.0.2", false],
    [{ HOST: "::1" }, "::1", false],
    [{ HOST: "localhost" }, "127.0.0.1", false],
    [{ HOST: "127.0.0.1.example.org" }, "127.0.0.1.example.org", true],
    [{ SERVER_API_KEY: "k" }, "0.0.0.0", true],
    [{ SERVER_API_KEY: "k", HOST: "::" }, "::", true],
    [{ SERVER_API_KEY: "k", HOST: "localhost" }, "127.0.0.1", true],
    [{ SERVER_API_KEY: " , ", HOST: "0.0.0.0" }, "0.0.0.0", true],
  ])("decide who can reach it: %j listens on %s, needs keys: %j", (environment, host, requiresKeys) => {
    expect(readConfig(environment)).toMatchObject({ listen: { host }, requiresKeys });
  });

  test("open it to the pages of every origin, unless some are named", () => {
    expect(readConfig({ SERVER_API_KEY: "k" }).corsOrigins).toEqual(["*"]);
    expect(readConfig({}).corsOrigins).toEqual([]);
    expect(
      readConfig({ SERVER_API_KEY: "k", CORS_ORIGINS: "https://a.example, https://b.example" }).corsOrigins,
    ).toEqual(["https://a.example", "https://b.example"]);
  });
});

describe("an embedding provider", () => {
  test("needs its URL only", () => {
    expect(readConfig({ EMBEDDING__BASE_URL: "https://api.openai.com/v1" }).embedding).toEqual({
      baseUrl: "https://api.openai.com/v1",
      model: "text-embedding-ada-002",
      apiKey: "",
      dimensions: undefined,
      sendDimensions: "auto",
      encodingFormat: "omit",
      batchTextsMax: 256,
      concurrency: 4,
      timeoutMs: 60_000,
      retriesMax: 2,
    });
  });

  test.each([["EMBEDDING__MODEL"], ["EMBEDDING__API_KEY"]])(
    "is asked for when %s is set without it",
    (name) => {
      expect(() => readConfig({ [name]: "x" })).toThrow("EMBEDDING__BASE_URL: needed with");
    },
  );

  test.each([
    ["true", true],
    ["FALSE", false],
    ["auto", "auto"],
  ])("is sent dimensions: %s", (value, sendDimensions) => {
    const environment = { EMBEDDING__BASE_URL: "http://x", EMBEDDING__SEND_DIMENSIONS: value };
    expect(readConfig(environment).embedding).toMatchObject({ sendDimensions });
  });
});

describe("replicas", () => {
  const primary = { DATABASE_URL: "postgresql://db/name" };

  test("are separated by commas", () => {
    const urls = "postgresql://r1/name, postgres://r2/name?sslmode=require,";
    expect(readConfig({ ...primary, DATABASE_REPLICA_URLS: urls }).database).toMatchObject({
      replicaUrls: ["postgresql://r1/name", "postgres://r2/name?sslmode=require"],
      replicaLagMaxMs: 5_000,
    });
    expect(readConfig(primary).database.replicaUrls).toEqual([]);
  });

  test("need a primary", () => {
    expect(() => readConfig({ DATABASE_REPLICA_URLS: "postgresql://r1/name" })).toThrow(
      "DATABASE_REPLICA_URLS: needs DATABASE_URL",
    );
  });

  test("must each be a Postgres", () => {
    expect(() =>
      readConfig({ ...primary, DATABASE_REPLICA_URLS: "postgresql://r1/name,mysql://r2" }),
    ).toThrow("DATABASE_REPLICA_URLS: expected a URL such as postgresql://");
  });
});

describe("a Postgres URL", () => {
  test.each(["pa/ss", "12/ss", "/", "p@/x", "pa?ss", "pa#ss", "p#@"])(
    "whose password needs percent-encoding is told of, without the password: %s",
    (password) => {
      const url = `postgresql://ada:${password}@db.example:5432/vectors?schema=x`;
      expect(() => readConfig({ DATABASE_URL: url })).toThrow(
        /^The configuration is invalid:\n {2}DATABASE_URL: the user or the password contains an unescaped character: write \/ as %2F, [^\n]+$/,
      );
    },
  );

  test.each([
    "postgresql://ada:p%2Fs%40s@db:5432/vectors?schema=public&sslmode=require",
    "postgres://ada:p@s:s 100%[]&=@db/vectors",
    "postgresql://db/vectors?user=ada@example",
    "postgresql://ada@/vectors?host=/run/postgresql",
    "postgresql:///vectors?host=/run/postgresql",
    "postgresql://ada:secret@[::1]:5432/vectors",
    "postgresql://ada:secret@%2Frun%2Fpostgresql/vectors",
    "postgresql://ada:p,w@one:5432,two:5433/vectors?target_session_attrs=read-write",
    "postgresql:///vectors?host=one,two&port=5433",
  ])("that node-postgres understands is taken: %s", (url) => {
    expect(readConfig({ DATABASE_URL: url }).database.url).toBe(url);
  });

  test("of another form is told of by its variable, without the password", () => {
    expect(() =>
      readConfig({
        DATABASE_URL: "postgresql://ada:secret@one:5432,[two:5432/vectors",
        DATABASE_DIRECT_URL: "ada:secret@db/vectors",
        DATABASE_REPLICA_URLS: "postgresql://ada:secret@db:port/vectors",
      }),
    ).toThrow(
      "The configuration is invalid:\n" +
        "  DATABASE_URL: is not a URL such as postgresql://user:password@host:5432/database\n" +
        "  DATABASE_DIRECT_URL: expected a URL such as postgresql://user:password@host:5432/database\n" +
        "  DATABASE_REPLICA_URLS: is not a URL such as postgresql://user:password@host:5432/database",
    );
  });

  test.each([
    ["one,two/vectors?target_session_attrs=prefer-standby", "target_session_attrs: expected one of any, "],
    ["one/vectors?target_session_attrs=writable", "target_session_attrs: expected one of any, read-write, "],
    ["one,,two/vectors", "names an empty host between commas"],
    ["one:5432,two:65536/vectors", "expected ports from 1 to 65535"],
    ["one,two/vectors?port=1,2,3", "names 2 hosts and 3 ports: give one port, or one for each host"],
    ["one,t%zzwo/vectors", "is not a URL such as "],
  ])("with a malformed list of servers is refused: %s", (url, fault) => {
    expect(() => readConfig({ DATABASE_URL: `postgresql://ada:secret@${url}` })).toThrow(
      `The configuration is invalid:\n  DATABASE_URL: ${fault}`,
    );
  });

  test("of a replica names one host", () => {
    expect(() =>
      readConfig({
        DATABASE_URL: "postgresql://one/vectors",
        DATABASE_REPLICA_URLS: "postgresql:///vectors?host=two%2Cthree",
      }),
    ).toThrow("DATABASE_REPLICA_URLS: expected one host in the URL of each replica");
  });
});

describe("TLS", () => {
  const cert = join(directory, "cert.pem");
  const key = join(directory, "key.pem");
  writeFileSync(cert, certificate.cert);
  writeFileSync(key, certificate.key);

  test("needs both files", () => {
    const files = { TLS_CERT_FILE: cert, TLS_KEY_FILE: key };
    expect(readConfig(files).listen.tls).toEqual({ cert, key, clientCa: undefined });
    expect(readConfig({ ...files, TLS_CLIENT_CA_FILE: cert }).listen.tls).toEqual({
      cert,
      key,
      clientCa: cert,
    });
    expect(() => readConfig({ TLS_CERT_FILE: cert })).toThrow(
      "TLS_CERT_FILE, TLS_KEY_FILE: set both or neither",
    );
    expect(() => readConfig({ TLS_KEY_FILE: key })).toThrow("set both or neither");
    expect(() => readConfig({ TLS_CLIENT_CA_FILE: cert })).toThrow("which TLS_CLIENT_CA_FILE needs");
  });

  test("needs a key that belongs to the certificate", () => {
    writeFileSync(join(directory, "other.pem"), renewedCertificate.key);
    expect(() => readConfig({ TLS_CERT_FILE: cert, TLS_KEY_FILE: join(directory, "other.pem") })).toThrow(
      "key values mismatch",
    );
  });

  test("needs files that can be read", () => {
    expect(() => readConfig({ TLS_CERT_FILE: cert, TLS_KEY_FILE: join(directory, "none") })).toThrow(
      "ENOENT",
    );
  });
});

describe("what is wrong", () => {
  test.each([
    ["PORT", "http"],
    ["PORT", "65536"],
    ["PORT", "-1"],
    ["PORT", "80.5"],
    ["PORT", "Infinity"],
    ["DATABASE_URL", "mysql://db"],
    ["DATABASE_URL", "db:5432"],
    ["DATABASE_POOL_MAX", "0"],
    ["REQUEST_BYTES_MAX", "32MB"],
    ["LOG_LEVEL", "loud"],
    ["LOG_FORMAT", "xml"],
    ["EMBEDDING__BASE_URL", "localhost:4000"],
    ["EMBEDDING__DIMENSIONS", "16001"],
    ["EMBEDDING__ENCODING_FORMAT", "int8"],
    ["EMBEDDING__BATCH_SIZE", "0"],
    ["DB_FIELDS__ID_FIELD", "id; drop table x"],
    ["DB_TABLES__EMBEDDINGS", 'em"beddings'],
    ["DB_FIELDS__CONTENT_FIELD", "x".repeat(64)],
  ])("is named with its variable: %s=%s", (name, value) => {
    expect(() => readConfig({ [name]: value })).toThrow(
      new RegExp(`^The configuration is invalid:\\n  ${name}: expected [^\\n]+$`),
    );
  });

  test("is told all at once", () => {
    const environment = {
      PORT: "x",
      LOG_LEVEL: "loud",
      TLS_CERT_FILE: "c",
      EMBEDDING__MODEL: "m",
      DATABASE_URL: "x",
    };
    const lines = (() => {
      try {
        readConfig(environment);
        return [];
      } catch (error) {
        return (error as Error).message.split("\n");
      }
    })();
    expect(lines).toHaveLength(6);
    for (const name of ["PORT", "LOG_LEVEL", "TLS_CERT_FILE", "EMBEDDING__BASE_URL", "DATABASE_URL"]) {
      expect(lines.filter((line) => line.startsWith(`  ${name}`))).toHaveLength(1);
    }
  });
});
