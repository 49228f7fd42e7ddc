import { writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A line chart, written as SVG. */
export interface Plot {
  title: string;
  x: Axis;
  y: Axis;
  lines: { name: string; points: { x: number; y: number; label?: string }[] }[];
}

interface Axis {
  title: string;
  scale: "linear" | "log";
}

const WIDTH = 760;
const HEIGHT = 440;
const MARGIN = { left: 70, right: 190, top: 40, bottom: 50 };
/** The palette of Okabe and Ito: distinguishable with colour blindness, on light and on dark backgrounds. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/** Writes the chart to `bench/plots/<name>.svg`. */
export async function writePlot(name: string, plot: Plot): Promise<void> {
  await writeFile(join(import.meta.dirname, "../plots", `${name}.svg`), draw(plot));
}

function draw({ title, x, y, lines }: Plot): string {
  const points = lines.flatMap((line) => line.points);
  const across = createScale(
    x,
    points.map((point) => point.x),
    MARGIN.left,
    WIDTH - MARGIN.right,
  );
  const up = createScale(
    y,
    points.map((point) => point.y),
    HEIGHT - MARGIN.bottom,
    MARGIN.top,
  );
  const body = [
    text(WIDTH / 2 - 60, 22, title, "middle", 15),
    ...across.ticks.map((tick) => grid(tick, across, "x")),
    ...up.ticks.map((tick) => grid(tick, up, "y")),
    text((MARGIN.left + WIDTH - MARGIN.right) / 2, HEIGHT - 10, x.title, "middle", 12),
    `<g transform="rotate(-90)">${text(-HEIGHT / 2, 16, y.title, "middle", 12)}</g>`,
    ...lines.flatMap(({ name, points: own }, index) => {
      const colour = COLOURS[index % COLOURS.length] as string;
      const places = own.map((point) => `${round(across.place(point.x))},${round(up.place(point.y))}`);
      const dots = own.map((point, at) => {
        const [left, top] = (places[at] as string).split(",");
        const label = point.label === undefined ? "" : `<title>${escape(point.label)}</title>`;
        return `<circle cx="${left}" cy="${top}" r="3.5" fill="${colour}">${label}</circle>`;
      });
      const height = MARGIN.top + 12 + index * 20;
      return [
        `<polyline points="${places.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...dots,
        `<rect x="${WIDTH - MARGIN.right + 12}" y="${height - 9}" width="12" height="12" fill="${colour}"/>`,
        text(WIDTH - MARGIN.right + 30, height + 1, name, "start", 12),
      ];
    }),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
${body.join("\n")}
</svg>
`;
}

interface Scale {
  place(value: number): number;
  ticks: number[];
}

function createScale(axis: Axis, values: readonly number[], start: number, end: number): Scale {
  const of = axis.scale === "log" ? Math.log10 : (value: number) => value;
  const low = of(Math.min(...values));
  const high = of(Math.max(...values));
  const room = (high - low || 1) * 0.04;
  const place = (value: number) =>
    start + ((of(value) - low + room) / (high - low + 2 * room)) * (end - start);
  return { place, ticks: axis.scale === "log" ? logTicks(low, high) : linearTicks(low, high) };
}

function logTicks(low: number, high: number): number[] {
  const decades = Array.from(
    { length: Math.ceil(high) - Math.floor(low) + 1 },
    (_, index) => Math.floor(low) + index,
  );
  const ticks = decades.flatMap((decade) => [1, 2, 5].map((step) => step * 10 ** decade));
  return ticks.filter((tick) => Math.log10(tick) >= low - 0.02 && Math.log10(tick) <= high + 0.02);
}

/** About six round tick values between `low` and `high`. */
function linearTicks(low: number, high: number): number[] {
  const raw = (high - low || 1) / 6;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * ([1, 2, 5, 10].find((factor) => factor * unit >= raw) as number);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function grid(tick: number, scale: Scale, axis: "x" | "y"): string {
  const at = round(scale.place(tick));
  const label = tick >= 1000 ? tick.toLocaleString("en") : String(tick);
  const line = (x1: number, y1: number, x2: number, y2: number) =>
    `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="#dddddd"/>`;
  return axis === "x"
    ? line(at, MARGIN.top, at, HEIGHT - MARGIN.bottom) +
        text(at, HEIGHT - MARGIN.bottom + 16, label, "middle", 11)
    : line(MARGIN.left, at, WIDTH - MARGIN.right, at) + text(MARGIN.left - 6, at + 4, label, "end", 11);
}

function text(x: number, y: number, content: string, anchor: string, size: number): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="${size}" fill="#333333">${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
