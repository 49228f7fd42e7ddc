import { compile } from "html-to-text";

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

/** Converts an HTML page to its visible text and its title, without link targets, images and scripts. */
export async function* readHtml(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let html = "";
  for await (const text of texts) html += text;
  yield convert(html);
}
