import type { XmlVisitor } from "./xml.ts";

/** Takes the text of a slide or of its notes: a paragraph is a line, a table's row one with tabs between cells. */
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
