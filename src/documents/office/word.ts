import type { XmlVisitor } from "./xml.ts";

/**
 * Visitor for a part of a DOCX: each paragraph becomes a block, each table row a line with tabs between the
 * cells.
 */
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
    // mc:Fallback repeats the content of the mc:Choice before it, for programs that do not support newer
    // shapes.
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
