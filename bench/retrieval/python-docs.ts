import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import questions from "./python-questions.json" with { type: "json" };
import type { QuestionSet } from "./perlfaq.ts";

/** The parts of Python's documentation that are told in prose. */
const PARTS = ["tutorial", "howto", "faq"];
const SUFFIX = ".rst.txt";
/** A heading's line is underlined by one of these characters. */
const UNDERLINE = /^([=\-~^*#"])\1{2,}$/;

interface Section {
  page: string;
  title: string;
  text: string;
}

/**
 * Reads the sections of Python's documentation, from the folder of its sources, as documents, and the written questions whose
 * answers they are. Questions about sections that this version of the documentation lacks are left out, and named.
 */
export function readPythonDocs(folder: string): QuestionSet & { lacking: string[] } {
  const sections = PARTS.flatMap((part) =>
    readdirSync(join(folder, part))
      .filter((name) => name.endsWith(SUFFIX))
      .toSorted()
      .flatMap((name) => {
        const page = `${part}/${name.slice(0, -SUFFIX.length)}`;
        return readSections(page, readFileSync(join(folder, part, name), "utf8"));
      }),
  );
  const asked = questions.map(([question = "", page, title]) => ({
    question,
    answer: sections.findIndex((section) => section.page === page && section.title === title),
  }));
  return {
    documents: sections.map(({ title, text }) => `${title}\n\n${text}`),
    questions: asked.filter(({ answer }) => answer >= 0),
    lacking: asked.filter(({ answer }) => answer < 0).map(({ question }) => question),
  };
}

/** Cuts a page at its headings; a heading without a text of its own is no section. */
function readSections(page: string, source: string): Section[] {
  const lines = source.split("\n");
  const isHeading = (index: number) => {
    const [line = "", next = ""] = lines.slice(index, index + 2).map((text) => text.trim());
    return line !== "" && !UNDERLINE.test(line) && UNDERLINE.test(next) && next.length >= line.length - 1;
  };
  const headings = lines.flatMap((_, index) => (isHeading(index) ? [index] : []));
  return headings
    .map((start, index) => ({
      page,
      title: (lines[start] ?? "").trim(),
      text: toText(lines.slice(start + 2, headings[index + 1])),
    }))
    .filter(({ text }) => text !== "");
}

/** Leaves out directives, lines above headings, and the marks of roles: :func:`len` is `len`. */
function toText(lines: readonly string[]): string {
  return lines
    .filter((line) => !/^\s*\.\. /.test(line) && !UNDERLINE.test(line.trim()))
    .join("\n")
    .replaceAll(/:[\w:-]+:`([^`]*)`/g, "`$1`")
    .replaceAll(/\n{3,}/g, "\n\n")
    .trim();
}
