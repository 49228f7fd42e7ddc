import { describe, expect, test } from "vitest";
import { parseMetrics, quantile, sum } from "../../console/api/prometheus.ts";
import { project } from "../../console/map/project.ts";

describe("the console's reader of metrics", () => {
  const scrape = (fast: number, all: number) =>
    parseMetrics(
      [
        "# HELP calls_total Calls.",
        `calls_total{rpc="a\\"b",code="ok"} ${all}`,
        'calls_total{rpc="c",code="internal"} 2',
        `duration_seconds_bucket{le="0.1",rpc="a"} ${fast}`,
        `duration_seconds_bucket{le="1",rpc="a"} ${all}`,
        `duration_seconds_bucket{le="+Inf",rpc="a"} ${all}`,
        "up 1e0",
      ].join("\n"),
    );

  test("reads names, labels and values", () => {
    expect(scrape(0, 0)[0]).toEqual({ name: "calls_total", labels: { rpc: 'a"b', code: "ok" }, value: 0 });
    expect(sum(scrape(0, 5), "calls_total")).toBe(7);
    expect(sum(scrape(0, 5), "calls_total", { code: "internal" })).toBe(2);
    expect(sum(scrape(0, 5), "up")).toBe(1);
  });

  test("finds quantiles of what came between two readings", () => {
    const find = (q: number) => quantile(scrape(10, 10), scrape(15, 20), { name: "duration_seconds", q });
    expect(find(0.5)).toBeCloseTo(0.1);
    expect(find(0.25)).toBeCloseTo(0.05);
    expect(find(0.75)).toBeCloseTo(0.55);
    const same = quantile(scrape(10, 10), scrape(10, 10), { name: "duration_seconds", q: 0.5 });
    expect(same).toBeUndefined();
  });
});

describe("the console's map", () => {
  test("puts vectors of one direction together, and those of another apart", () => {
    const vector = (direction: number, noise: number) =>
      Array.from({ length: 32 }, (_, index) => (index === direction ? 5 : Math.sin(index * noise) / 5));
    const points = project([...[1, 2, 3].map((n) => vector(3, n)), ...[1, 2, 3].map((n) => vector(20, n))]);
    const distance = (a: number, b: number) =>
      Math.hypot(
        (points[a]?.[0] ?? NaN) - (points[b]?.[0] ?? NaN),
        (points[a]?.[1] ?? NaN) - (points[b]?.[1] ?? NaN),
      );
    // The first axis tells the two directions apart.
    const first = points.map(([x]) => Math.sign(x));
    expect(first.slice(0, 3)).toEqual([first[0], first[0], first[0]]);
    expect(first.slice(3)).toEqual([-(first[0] as number), -(first[0] as number), -(first[0] as number)]);
    expect(distance(0, 3)).toBeGreaterThan(1.5);
  });

  test("does without anything to tell apart", () => {
    expect(project([])).toEqual([]);
    expect(project([[1, 0]])).toEqual([[0, 0]]);
    expect(
      project([
        [0, 0],
        [0, 0],
      ]),
    ).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });
});
