import { SaxesParser } from "saxes";
import { invalidFile } from "../error.ts";

/** What a reader of one kind of XML does at each tag and text. Names of tags come without their prefix. */
export interface XmlVisitor {
  open?(name: string, attributes: Record<string, string>): void;
  close?(name: string): void;
  text?(text: string): void;
  /** The text found since the last call. */
  take?(): string;
}

/** Gives a visitor the tags and texts of an XML file as it is read, and yields the text it makes of them. */
export async function* visitXml(
  bytes: AsyncIterable<Uint8Array>,
  visitor: XmlVisitor,
): AsyncGenerator<string> {
  const parser = new SaxesParser({ position: false, xmlns: false });
  parser.on("error", (error) => {
    throw invalidFile("The file is damaged: it holds XML that is not well-formed.", error);
  });
  parser.on("doctype", () => {
    throw invalidFile("The file holds an XML document type, which no Office file has.");
  });
  parser.on("opentag", (tag) => visitor.open?.(localName(tag.name), tag.attributes));
  parser.on("closetag", (tag) => visitor.close?.(localName(tag.name)));
  parser.on("text", (text) => visitor.text?.(text));
  const decoder = new TextDecoder();
  let isEmpty = true;
  for await (const part of bytes) {
    isEmpty = false;
    parser.write(decoder.decode(part, { stream: true }));
    const text = visitor.take?.() ?? "";
    if (text !== "") yield text;
  }
  if (isEmpty) return;
  parser.write(decoder.decode()).close();
  const text = visitor.take?.() ?? "";
  if (text !== "") yield text;
}

/** Reads an XML file that a visitor makes no text of. */
export async function readXml(bytes: AsyncIterable<Uint8Array>, visitor: XmlVisitor): Promise<void> {
  for await (const _ of visitXml(bytes, visitor));
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}
