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

  /** Where .ci/run installs the tools, or where somebody has them. */
  const find = (name: string, folder: string, ...args: string[]) =>
    [join(root, "scripts/schemas", folder, name), name].find((path) => spawnSync(path, args).status === 0);
  const helm = find("helm", ".bin", "version");
  const hasHelm = helm !== undefined;
  if (!hasHelm) console.warn("Helm is not installed: the chart is not rendered.");
  const validator = find("kubernetes-validate", ".venv/bin", "--version");
  if (validator === undefined)
    console.warn("kubernetes-validate is not installed: the chart is not checked by Kubernetes' schemas.");

  interface Manifest {
    kind: string;
    spec: Record<string, unknown>;
  }
  const template = (settings: string[]) => {
    const args = ["--kube-version", "1.31.0", ...settings.flatMap((setting) => ["--set", setting])];
    return spawnSync(String(helm), ["template", "r", chart, ...args], { cwd: root, encoding: "utf8" });
  };
  const render = (...settings: string[]) => {
    const { status, stdout, stderr } = template(settings);
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

  const everything = [
    "secret.values.DATABASE_URL=postgresql://db/v",
    "tls.secretName=t",
    ...["autoscaling", "networkPolicy", "serviceMonitor"].map((part) => `${part}.enabled=true`),
  ];

  test.runIf(hasHelm && validator !== undefined)(
    "renders what the schemas of Kubernetes accept, without a field that they do not have (runs where Helm and the schemas are)",
    () => {
      const { stdout } = template(everything);
      const check = (version: string, input: string) =>
        spawnSync(String(validator), ["--strict", "-k", version, "-"], { input, encoding: "utf8" });
      for (const version of ["1.27", "1.31", "1.37"]) {
        const checked = check(version, stdout);
        expect(checked.status, checked.stdout).toBe(0);
        expect(checked.stdout.match(/^INFO .* passed /gm)).toHaveLength(7);
        // A ServiceMonitor is of a CustomResourceDefinition, whose schema is not among Kubernetes' own.
        expect(checked.stdout.match(/^WARN .*$/gm)).toEqual([expect.stringContaining("ServiceMonitor")]);
      }
      expect(check("1.31", stdout.replace("livenessProbe:", "livenesProbe:")).status).toBe(1);
    },
  );

  test.runIf(hasHelm)("makes everything else when asked, and refuses what the service would not read", () => {
    const manifests = render(...everything);
    if (typeof manifests === "string") throw new Error(manifests);
    for (const kind of ["HorizontalPodAutoscaler", "NetworkPolicy", "ServiceMonitor", "Secret"])
      expect(manifests.has(kind), kind).toBe(true);
    expect(render("secret.existing=s", "config.WORKRES=2")).toContain("WORKRES");
    expect(render()).toContain("Set secret.existing");
  });
});
