import { spawnSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { variables } from "../../src/settings/variables.ts";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

describe("the chart", () => {
  const chart = "deploy/helm/pgquiver";
  const names = Object.keys(variables.shape);
  /** Variables that follow from other values of the chart. */
  const own = ["PORT", "SHUTDOWN_DELAY_SECONDS", "SHUTDOWN_GRACE_SECONDS", "TLS_CERT_FILE", "TLS_KEY_FILE"];
  const values = parse(read(`${chart}/values.yaml`)) as Record<string, Record<string, unknown>>;

  test("takes the variables that docs/configuration.md lists, and no other", () => {
    const { properties } = JSON.parse(read(`${chart}/values.schema.json`)) as {
      properties: {
        config: { propertyNames: { enum: string[] } };
        secret: { properties: { values: { propertyNames: { enum: string[] } } } };
      };
    };
    const taken = names.filter((name) => !own.includes(name));
    for (const { propertyNames } of [properties.config, properties.secret.properties.values])
      expect(propertyNames.enum.toSorted()).toEqual(taken.toSorted());
    expect(taken).toEqual(expect.arrayContaining(Object.keys(values["config"] ?? {})));
    const templates = globSync(`${chart}/templates/*`, { cwd: root }).map(read).join("\n");
    const set = [...templates.matchAll(/\{ name: ([A-Z_]+), value:/g)].map(([, name]) => name as string);
    expect(set.toSorted()).toEqual(own.toSorted());
    const mentioned = `${templates}\n${read(`${chart}/values.yaml`)}`.match(/\b[A-Z]+(?:_+[A-Z]+)+\b/g) ?? [];
    expect(mentioned.filter((name) => !names.includes(name) && !name.startsWith("OTEL_"))).toEqual([]);
  });

  test("describes every value in its schema", () => {
    const { properties } = JSON.parse(read(`${chart}/values.schema.json`)) as { properties: object };
    expect(Object.keys(properties).toSorted()).toEqual([...Object.keys(values), "global"].toSorted());
  });

  test("is of the service's version", () => {
    const { appVersion } = parse(read(`${chart}/Chart.yaml`)) as { appVersion: string };
    expect(appVersion).toBe((JSON.parse(read("package.json")) as { version: string }).version);
  });

  const hasHelm = spawnSync("helm", ["version"]).status === 0;
  if (!hasHelm) console.warn("Helm is not installed: the chart is not rendered.");

  interface Manifest {
    kind: string;
    spec: Record<string, unknown>;
  }
  const render = (...settings: string[]) => {
    const version = ["--kube-version", "1.31.0"];
    const args = settings.flatMap((setting) => ["--set", setting]);
    const { status, stdout, stderr } = spawnSync("helm", ["template", "r", chart, ...version, ...args], {
      cwd: root,
      encoding: "utf8",
    });
    if (status !== 0) return stderr;
    return new Map(
      parseAllDocuments(stdout).map((document) => {
        const manifest = document.toJS() as Manifest;
        return [manifest.kind, manifest];
      }),
    );
  };

  test.runIf(hasHelm)("gives pods that are probed, end in time and may write nothing", () => {
    const manifests = render(
      "secret.existing=s",
      "shutdown.graceSeconds=60",
      "config.REQUEST_BYTES_MAX=33554432",
    );
    if (typeof manifests === "string") throw new Error(manifests);
    expect([...manifests.keys()].toSorted()).toEqual([
      "Deployment",
      "PodDisruptionBudget",
      "Service",
      "ServiceAccount",
    ]);
    expect(manifests.get("Deployment")).toMatchObject({
      spec: {
        template: {
          spec: {
            terminationGracePeriodSeconds: 75,
            securityContext: { runAsNonRoot: true },
            containers: [
              {
                envFrom: [{ secretRef: { name: "s" } }],
                env: expect.arrayContaining([
                  { name: "SHUTDOWN_DELAY_SECONDS", value: "5" },
                  { name: "SHUTDOWN_GRACE_SECONDS", value: "60" },
                  { name: "REQUEST_BYTES_MAX", value: "33554432" },
                ]),
                startupProbe: { httpGet: { path: "/livez" } },
                readinessProbe: { httpGet: { path: "/readyz" } },
                livenessProbe: { httpGet: { path: "/livez" } },
                securityContext: { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false },
              },
            ],
          },
        },
      },
    });
  });

  test.runIf(hasHelm)("makes everything else when asked, and refuses what the service would not read", () => {
    const everything = render(
      "secret.values.DATABASE_URL=postgresql://db/v",
      "tls.secretName=t",
      ...["autoscaling", "networkPolicy", "serviceMonitor"].map((part) => `${part}.enabled=true`),
    );
    if (typeof everything === "string") throw new Error(everything);
    for (const kind of ["HorizontalPodAutoscaler", "NetworkPolicy", "ServiceMonitor", "Secret"])
      expect(everything.has(kind), kind).toBe(true);
    expect(render("secret.existing=s", "config.WORKRES=2")).toContain("WORKRES");
    expect(render()).toContain("Set secret.existing");
  });
});
