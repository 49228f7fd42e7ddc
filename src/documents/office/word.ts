import { HEADING_LEVEL_MAX } from "../places.ts";
import { MarkedText } from "./marked-text.ts";
import { attributeOf, type XmlVisitor } from "./xml.ts";

/** A paragraph style. */
export interface WordStyle {
  /** The style's level as a heading, from 1, if it says it itself; 10: it is none. */
  level?: number;
  /** Id of the style that it is based on. */
  base?: string;
}

/** Styles that a style may be based on, one on the next. */
const BASES_MAX = 20;

/** The names of the built-in heading styles, which are the same in all languages. */
const HEADING_NAME = /^heading ([1-9])$/i;

/** Visitor that collects the styles of a DOCX by their ids. */
export function visitWordStyles(styles: Map<string, WordStyle>): XmlVisitor {
  let style: WordStyle = {};
  return {
    open(name, attributes) {
      if (name === "style") {
        style = {};
        styles.set(attributeOf(attributes, "styleId") ?? "", style);
        return;
      }
      const value = attributeOf(attributes, "val") ?? "";
      if (name === "basedOn") style.base = value;
      else if (name === "outlineLvl") style.level = Number(value) + 1;
      else if (name === "name" && HEADING_NAME.test(value)) style.level = Number(value.at(-1));
    },
  };
}

/** The level of a style as a heading, from 1 to 6, by itself or by what it is based on; 0: it is none. */
function levelOf(styles: ReadonlyMap<string, WordStyle>, id: string | undefined): number {
  let style = styles.get(id ?? "");
  for (let i = 0; i < BASES_MAX && style !== undefined && style.level === undefined; i++)
    style = styles.get(style.base ?? "");
  return toLevel(style?.level);
}

function toLevel(level: number | undefined): number {
  return level !== undefined && level >= 1 && level <= HEADING_LEVEL_MAX ? level : 0;
}

/**
 * Visitor for a part of a DOCX: each paragraph becomes a block, each table row a line with tabs between the
 * cells. Paragraphs outside of tables whose style is that of a heading are marked.
 */
export function visitWord(styles: ReadonlyMap<string, WordStyle>): XmlVisitor {
  const text = new MarkedText();
  let cells = 0;
  let skipped = 0;
  let isText = false;
  let isTabStops = false;
  /** Paragraphs that the reader is in: those of text boxes are inside of others. */
  let paragraphs = 0;
  /** Whether the properties are those before a tracked change. */
  let isFormer = false;
  return {
    open(name, attributes) {
      if (name === "Fallback") skipped++;
      else if (name === "t") isText = true;
      else if (name === "tc") cells++;
      else if (name === "tabs") isTabStops = true;
      else if (name === "tab" && !isTabStops) text.append("\t");
      else if (name === "br" || name === "cr") text.append("\n");
      else if (name === "noBreakHyphen") text.append("-");
      else if (name === "pPrChange") isFormer = true;
      else if (name === "p" && paragraphs++ === 0) text.begin();
      if (paragraphs !== 1 || cells > 0 || isFormer) return;
      if (name === "pStyle") text.setLevel(levelOf(styles, attributeOf(attributes, "val")));
      else if (name === "outlineLvl") text.setLevel(toLevel(Number(attributeOf(attributes, "val")) + 1));
    },
    close(name) {
      if (name === "Fallback") skipped--;
      else if (name === "t") isText = false;
      else if (name === "tabs") isTabStops = false;
      else if (name === "pPrChange") isFormer = false;
      else if (name === "p") text.append(cells > 0 ? " " : "\n\n");
      else if (name === "tr" || name === "tbl") text.append("\n");
      else if (name === "tc") {
        cells--;
        text.append("\t");
      }
      if (name === "p" && --paragraphs === 0) text.end();
    },
    // mc:Fallback repeats the content of the mc:Choice before it, for programs that do not support newer
    // shapes.
    text(part) {
      if (isText && skipped === 0) text.append(part);
    },
    take: () => text.take(),
  };
}
