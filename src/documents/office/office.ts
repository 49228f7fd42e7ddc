import { extname } from "node:path";
import { openArchive, type Archive, type ArchiveLimits } from "./archive.ts";
import { invalidFile, unsupportedFile } from "../error.ts";
import { markHeading, type Piece } from "../places.ts";
import { visitSlide } from "./presentation.ts";
import { readRelations, relationId, targetsById } from "./relations.ts";
import { visitSharedTexts, visitSheet, visitStyles, type CellContext } from "./spreadsheet.ts";
import { visitWord, visitWordStyles, type WordStyle } from "./word.ts";
import { readXml, visitXml } from "./xml.ts";

/**
 * Extracts the text of a DOCX, PPTX or XLSX file. The kind is detected from the archive's main part, not from
 * the name.
 */
export async function* readOffice(
  bytes: Buffer,
  filename: string,
  limits: ArchiveLimits,
): AsyncGenerator<Piece> {
  const isNamedSo = /^\.(docx|docm|pptx|pptm|xlsx|xlsm)$/i.test(extname(filename));
  const archive = await openArchive(bytes, limits).catch((error: unknown) => {
    throw isNamedSo ? error : unsupportedFile(NOT_OFFICE);
  });
  const relations = await readRelations(archive, "");
  const main = relations.find(({ type }) => type === "officeDocument")?.target ?? "";
  if (main.startsWith("word/")) yield* readWord(archive, main);
  else if (main.startsWith("ppt/")) yield* readPresentation(archive, main);
  else if (main.startsWith("xl/") && main.endsWith(".xml")) yield* readSpreadsheet(archive, main);
  else if (isNamedSo) throw invalidFile("The file is named as an Office document, but is another archive.");
  else throw unsupportedFile(NOT_OFFICE);
}

const NOT_OFFICE = "The file is a ZIP archive other than DOCX, PPTX or XLSX, which cannot be read as text.";

/** Ends all headings: what follows is below none of them. */
const NO_HEADINGS = markHeading("", 1);

/** Yields the body, then footnotes and endnotes. */
async function* readWord(archive: Archive, main: string): AsyncGenerator<Piece> {
  const relations = await readRelations(archive, main);
  const styles = new Map<string, WordStyle>();
  for (const { type, target } of relations)
    if (type === "styles") await readXml(archive.read(target), visitWordStyles(styles));
  const notes = relations.filter(({ type }) => type === "footnotes" || type === "endnotes");
  for (const part of [main, ...notes.map(({ target }) => target)]) {
    yield NO_HEADINGS;
    yield* visitXml(archive.read(part), visitWord(styles));
  }
}

/** Yields slide by slide, each behind its number and followed by its speaker notes. */
async function* readPresentation(archive: Archive, main: string): AsyncGenerator<Piece> {
  const relations = await readRelations(archive, main);
  const slides: (string | undefined)[] = [];
  await readXml(archive.read(main), {
    open(name, attributes) {
      if (name === "sldId") slides.push(relationId(attributes));
    },
  });
  const targets = targetsById(relations);
  for (const [index, slide] of slides.entries()) {
    const part = targets.get(slide);
    if (part === undefined) continue;
    yield { page: index + 1 };
    yield NO_HEADINGS;
    const related = await readRelations(archive, part);
    const notes = related.filter(({ type }) => type === "notesSlide").map(({ target }) => target);
    for (const name of [part, ...notes]) yield* visitXml(archive.read(name), visitSlide());
    yield "\n\n";
  }
}

/** Yields sheet by sheet, each behind its number and below its name. */
async function* readSpreadsheet(archive: Archive, main: string): AsyncGenerator<Piece> {
  const relations = await readRelations(archive, main);
  const context: CellContext = { texts: [], dates: [], isFrom1904: false };
  const sheets: { name: string; relation: string | undefined }[] = [];
  await readXml(archive.read(main), {
    open(name, attributes) {
      const { name: title = "", date1904 = "" } = attributes;
      if (name === "sheet") sheets.push({ name: title, relation: relationId(attributes) });
      else if (name === "workbookPr") context.isFrom1904 = date1904 === "1" || date1904 === "true";
    },
  });
  for (const { type, target } of relations) {
    if (type === "sharedStrings") await readXml(archive.read(target), visitSharedTexts(context.texts));
    else if (type === "styles") await readXml(archive.read(target), visitStyles(context.dates));
  }
  const targets = targetsById(relations);
  for (const [index, { name, relation }] of sheets.entries()) {
    const part = targets.get(relation);
    if (part === undefined) continue;
    yield { page: index + 1 };
    yield markHeading(name, 1);
    yield `${name}\n`;
    yield* visitXml(archive.read(part), visitSheet(context));
    yield "\n\n";
  }
}
