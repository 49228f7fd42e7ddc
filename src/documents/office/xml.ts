import { SaxesParser } from "saxes";
import { invalidFile } from "../error.ts";
import type { Piece } from "../places.ts";

/** Callbacks of the streaming (SAX) XML parser. Tag names come without their namespace prefix. */
export interface XmlVisitor {
  open?(name: string, attributes: Record<string, string>): void;
  close?(name: string): void;
  text?(text: string): void;
  /** Returns the text extracted since the last call, with its marks. */
  take?(): Piece[];
}

/**
 * Parses XML as a stream, calls the visitor, and yields the text that the visitor extracts. Throws
 * `invalid_file` for malformed XML, and for a DOCTYPE, which no Office file has and which allows entity
 * expansion attacks.
 */
export async function* visitXml(
  bytes: AsyncIterable<Uint8Array>,
  visitor: XmlVisitor,
): AsyncGenerator<Piece> {
  const parser = new SaxesParser({ position: false, xmlns: false });
  parser.on("error", (error) => {
    throw invalidFile("The file is damaged: it holds XML that is not well-formed.", error);
  });
  parser.on("doctype", () => {
    throw invalidFile("The file contains an XML DOCTYPE, which is not allowed in Office files.");
  });
  parser.on("opentag", (tag) => visitor.open?.(localName(tag.name), tag.attributes));
  parser.on("closetag", (tag) => visitor.close?.(localName(tag.name)));
  parser.on("text", (text) => visitor.text?.(text));
  const decoder = new TextDecoder();
  let isEmpty = true;
  for await (const part of bytes) {
    isEmpty = false;
    parser.write(decoder.decode(part, { stream: true }));
    yield* takePieces(visitor);
  }
  if (isEmpty) return;
  parser.write(decoder.decode()).close();
  yield* takePieces(visitor);
}

function takePieces(visitor: XmlVisitor): Piece[] {
  return visitor.take?.().filter((piece) => piece !== "") ?? [];
}

/** Parses XML for a visitor that collects data instead of extracting text. */
export async function readXml(bytes: AsyncIterable<Uint8Array>, visitor: XmlVisitor): Promise<void> {
  for await (const _ of visitXml(bytes, visitor));
}

/** The value of an attribute, with whatever namespace prefix the file uses. */
export function attributeOf(attributes: Record<string, string>, name: string): string | undefined {
  return Object.entries(attributes).find(([key]) => localName(key) === name)?.[1];
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}
