import type { XmlVisitor } from "./xml.ts";

/** Takes the text of a DOCX's part: a paragraph is a block, a table's row a line with tabs between its cells. */
export function visitWord(): XmlVisitor {
  let text = "";
  let cells = 0;
  let skipped = 0;
  let isText = false;
  let isTabStops = false;
  return {
    open(name) {
      if (name === "Fallback") skipped++;
      else if (name === "t") isText = true;
      else if (name === "tc") cells++;
      else if (name === "tabs") isTabStops = true;
      else if (name === "tab" && !isTabStops) text += "\t";
      else if (name === "br" || name === "cr") text += "\n";
      else if (name === "noBreakHyphen") text += "-";
    },
    close(name) {
      if (name === "Fallback") skipped--;
      else if (name === "t") isText = false;
      else if (name === "tabs") isTabStops = false;
      else if (name === "p") text += cells > 0 ? " " : "\n\n";
      else if (name === "tr" || name === "tbl") text += "\n";
      else if (name === "tc") {
        cells--;
        text += "\t";
      }
    },
    // A fallback says once more what is said before it, for programs that do not know newer shapes.
    text(part) {
      if (isText && skipped === 0) text += part;
    },
    take() {
      const taken = text;
      text = "";
      return taken;
    },
  };
}
