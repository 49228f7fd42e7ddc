import { MarkedText } from "./marked-text.ts";
import type { XmlVisitor } from "./xml.ts";

/** Placeholders of a slide that hold its title. */
const TITLES: ReadonlySet<string | undefined> = new Set(["title", "ctrTitle"]);

/**
 * Visitor for a slide or its notes: each paragraph becomes a line, each table row a line with tabs between
 * the cells. The title is marked as a heading.
 */
export function visitSlide(): XmlVisitor {
  const text = new MarkedText();
  let cells = 0;
  let isText = false;
  let isNumber = false;
  return {
    open(name, attributes) {
      if (name === "t") isText = true;
      else if (name === "tc") cells++;
      else if (name === "br") text.append("\n");
      else if (name === "fld") isNumber = attributes["type"] === "slidenum";
      else if (name === "sp") text.begin();
      else if (name === "ph" && TITLES.has(attributes["type"])) text.setLevel(1);
    },
    close(name) {
      if (name === "t") isText = false;
      else if (name === "fld") isNumber = false;
      else if (name === "p") text.append(cells > 0 ? " " : "\n");
      else if (name === "tr" || name === "sp") text.append("\n");
      else if (name === "tc") {
        cells--;
        text.append("\t");
      }
      if (name === "sp") text.end();
    },
    text(part) {
      if (isText && !isNumber) text.append(part);
    },
    take: () => text.take(),
  };
}
