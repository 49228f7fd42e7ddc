import { compile } from "html-to-text";
import { Parser } from "htmlparser2";
import { invalidFile } from "./error.ts";

/**
 * Maximum depth of nested elements. Deeper pages overflow the stack of the recursive converter, after a time
 * with the square of the depth: the parser moves its list of open elements for each tag.
 */
const DEPTH_MAX = 5_000;

const convert = compile({
  wordwrap: false,
  // No base element, so the whole document is converted: HTML allows pages without `html` and `body` tags.
  baseElements: { selectors: [] },
  selectors: [
    { selector: "a", options: { ignoreHref: true } },
    ...["h1", "h2", "h3", "h4", "h5", "h6"].map((selector) => ({ selector, options: { uppercase: false } })),
    ...["img", "script", "style", "noscript", "template", "svg", "iframe", "object"].map((selector) => ({
      selector,
      format: "skip",
    })),
    { selector: "title", format: "block", options: { trailingLineBreaks: 2 } },
    { selector: "tr", format: "block", options: { leadingLineBreaks: 1, trailingLineBreaks: 1 } },
    { selector: "td", format: "inlineSurround", options: { suffix: " " } },
    { selector: "th", format: "inlineSurround", options: { suffix: " " } },
  ],
});

/**
 * Converts an HTML page to its visible text and its title, without link targets, images and scripts. Throws
 * `invalid_file` for elements nested deeper than 5,000.
 */
export async function* readHtml(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let html = "";
  let depth = 0;
  const counter = new Parser({
    onopentagname() {
      if (++depth > DEPTH_MAX)
        throw invalidFile(`The file holds elements nested deeper than ${DEPTH_MAX} levels.`);
    },
    onclosetag() {
      depth--;
    },
  });
  for await (const text of texts) {
    counter.write(text);
    html += text;
  }
  yield convert(html);
}
