import { randomUUID } from "node:crypto";
import { compile, type FormatCallback } from "html-to-text";
import { Parser } from "htmlparser2";
import { invalidFile } from "./error.ts";
import { markHeading, type Piece } from "./places.ts";

/**
 * Maximum depth of nested elements. Deeper pages overflow the stack of the recursive converter, after a time
 * with the square of the depth: the parser moves its list of open elements for each tag.
 */
const DEPTH_MAX = 5_000;

/**
 * Stands in the converted text before the level of a heading, and before a 0 at its end. No page can have it: it is
 * random, and begins with a code point that is no character.
 */
const MARKER = `\u{fdd0}${randomUUID()}`;

const formatHeading: FormatCallback = (element, walk, builder, { leadingLineBreaks, trailingLineBreaks }) => {
  builder.openBlock({ leadingLineBreaks: leadingLineBreaks ?? 2 });
  builder.addInline(`${MARKER}${(element.name ?? "h1").slice(1)}`, { noWordTransform: true });
  walk(element.children, builder);
  builder.addInline(`${MARKER}0`, { noWordTransform: true });
  builder.closeBlock({ trailingLineBreaks: trailingLineBreaks ?? 2 });
};

const convert = compile({
  wordwrap: false,
  formatters: { markedHeading: formatHeading },
  // No base element, so the whole document is converted: HTML allows pages without `html` and `body` tags.
  baseElements: { selectors: [] },
  selectors: [
    { selector: "a", options: { ignoreHref: true } },
    ...["h1", "h2", "h3", "h4", "h5", "h6"].map((selector) => ({ selector, format: "markedHeading" })),
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
 * Converts an HTML page to its visible text and its title, without link targets, images and scripts, with marks before
 * the headings. Throws `invalid_file` for elements nested deeper than 5,000.
 */
export async function* readHtml(texts: AsyncIterable<string>): AsyncGenerator<Piece> {
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
  yield* splitMarks(convert(html));
}

function* splitMarks(text: string): Generator<Piece> {
  const [before = "", ...parts] = text.split(MARKER);
  yield before;
  for (const part of parts) {
    const [level, following] = [Number(part.charAt(0)), part.slice(1)];
    if (level > 0) yield markHeading(following, level);
    // White space at the start of a heading is that of its block.
    yield level > 0 ? following.trimStart() : following;
  }
}
