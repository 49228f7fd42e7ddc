import type { XmlVisitor } from "./xml.ts";

/**
 * Visitor for a slide or its notes: each paragraph becomes a line, each table row a line with tabs between
 * the cells.
 */
export function visitSlide(): XmlVisitor {
  let text = "";
  let cells = 0;
  let isText = false;
  let isNumber = false;
  return {
    open(name, attributes) {
      if (name === "t") isText = true;
      else if (name === "tc") cells++;
      else if (name === "br") text += "\n";
      else if (name === "fld") isNumber = attributes["type"] === "slidenum";
    },
    close(name) {
      if (name === "t") isText = false;
      else if (name === "fld") isNumber = false;
      else if (name === "p") text += cells > 0 ? " " : "\n";
      else if (name === "tr" || name === "sp") text += "\n";
      else if (name === "tc") {
        cells--;
        text += "\t";
      }
    },
    text(part) {
      if (isText && !isNumber) text += part;
    },
    take() {
      const taken = text;
      text = "";
      return taken;
    },
  };
}
