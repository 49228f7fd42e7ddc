import type { XmlVisitor } from "./xml.ts";

/** Data of the workbook that the cells of all sheets refer to. */
export interface CellContext {
  /** Shared strings, by index. */
  texts: string[];
  /** Whether a cell style formats numbers as dates, by style index. */
  dates: boolean[];
  /** Whether the workbook uses the 1904 date system. */
  isFrom1904: boolean;
}

const DAY_MS = 86_400_000;
/** Day 0 of the 1900 and of the 1904 date system. */
const EPOCH_MS = Date.UTC(1899, 11, 30);
const EPOCH_1904_MS = Date.UTC(1904, 0, 1);

/** Ids of the built-in number formats for dates and times (ECMA-376 part 1, 18.8.30). */
const DATE_FORMATS = new Set([14, 15, 16, 17, 18, 19, 20, 21, 22, 45, 46, 47]);

/**
 * Maximum length of a format code, Excel's own limit. The regular expression takes quadratic time for the
 * thousands of "[" of a hostile workbook.
 */
const FORMAT_CODE_CHARS_MAX = 255;

/** Visitor that collects the shared strings, without phonetic readings (furigana, `rPh`). */
export function visitSharedTexts(texts: string[]): XmlVisitor {
  let text = "";
  let isText = false;
  let isReading = false;
  return {
    open(name) {
      if (name === "si") text = "";
      else if (name === "t") isText = true;
      else if (name === "rPh") isReading = true;
    },
    close(name) {
      // Once for each text, not for each of the cells that refer to it.
      if (name === "si") texts.push(oneLine(text));
      else if (name === "t") isText = false;
      else if (name === "rPh") isReading = false;
    },
    text(part) {
      if (isText && !isReading) text += part;
    },
  };
}

/** Visitor that collects which cell styles format numbers as dates. */
export function visitStyles(dates: boolean[]): XmlVisitor {
  const formats = new Set(DATE_FORMATS);
  let isCellStyle = false;
  return {
    open(name, { numFmtId, formatCode }) {
      const id = Number(numFmtId);
      // Without quoted literals, [colours] and escaped characters, only date formats contain these letters.
      const code = formatCode?.slice(0, FORMAT_CODE_CHARS_MAX).replaceAll(/"[^"]*"|\[[^\]]*\]|\\./g, "");
      if (name === "numFmt" && /[dmyhs]/i.test(code ?? "")) formats.add(id);
      else if (name === "cellXfs") isCellStyle = true;
      else if (name === "xf" && isCellStyle) dates.push(formats.has(id));
    },
    close(name) {
      if (name === "cellXfs") isCellStyle = false;
    },
  };
}

/** Visitor for a sheet: each row becomes a line, with tabs between the cells that are not empty. */
export function visitSheet(context: CellContext): XmlVisitor {
  let text = "";
  let row: string[] = [];
  let cell = { type: "n", style: 0, value: "" };
  let isValue = false;
  return {
    open(name, { t: type = "n", s: style = "0" }) {
      if (name === "row") row = [];
      else if (name === "c") cell = { type, style: Number(style), value: "" };
      else if (name === "v" || name === "t") isValue = true;
    },
    close(name) {
      if (name === "v" || name === "t") isValue = false;
      else if (name === "c" && cell.value !== "") row.push(showCell(cell, context));
      else if (name === "row" && row.length > 0) text += `${row.join("\t")}\n`;
    },
    text(part) {
      if (isValue) cell.value += part;
    },
    take() {
      const taken = text;
      text = "";
      return [taken];
    },
  };
}

function showCell(cell: { type: string; style: number; value: string }, context: CellContext): string {
  if (cell.type === "s") return context.texts[Number(cell.value)] ?? "";
  if (cell.type === "b") return cell.value === "1" ? "TRUE" : "FALSE";
  if (cell.type === "n" && context.dates[cell.style] === true) return showDate(Number(cell.value), context);
  return oneLine(cell.value);
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, (run) => (run.includes("\n") ? " " : run));
}

/** Formats a serial date: date, with the time if it has a fraction; the time alone for less than one day. */
function showDate(days: number, { isFrom1904 }: CellContext): string {
  const ms = Math.round((days * DAY_MS) / 1000) * 1000 + (isFrom1904 ? EPOCH_1904_MS : EPOCH_MS);
  if (!(Math.abs(ms) < 8.64e15)) return String(days);
  const [date = "", time = ""] = new Date(ms).toISOString().slice(0, -5).split("T");
  if (days < 1) return time;
  return Number.isInteger(days) ? date : `${date} ${time}`;
}
