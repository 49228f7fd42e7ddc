import { mkdtempSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** The words that the model knows, and the place of the 1 in each word's vector. */
const WORDS = { car: 0, automobile: 0, fruit: 1, banana: 1, snow: 2, winter: 2 };

const DIMENSIONS = 4;

/** Tokens that the model reads, with the two that mark start and end. */
export const TOKENS_MAX = 16;

const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/** Field numbers and types of onnx.proto3. */
const FLOAT = 1;
const INT64 = 7;

/**
 * Writes a directory with a model of sentences: each word has a vector, and those of `WORDS` share theirs with a synonym.
 * The model's only operation is Gather, so its output are the tokens' vectors, which the service must pool.
 */
export function writeOnnxModel(name: string): string {
  const directory = join(mkdtempSync(join(tmpdir(), "pgquiver-onnx-")), name);
  mkdirSync(join(directory, "onnx"), { recursive: true });
  const words = [...SPECIAL, ...Object.keys(WORDS)];
  const table = new Float32Array(words.length * DIMENSIONS);
  // What stands for padding must not count.
  table.fill(100, 0, DIMENSIONS);
  for (const [word, place] of Object.entries(WORDS)) table[words.indexOf(word) * DIMENSIONS + place] = 1;
  for (const word of ["[UNK]", "[CLS]"]) table[words.indexOf(word) * DIMENSIONS + 3] = 0.1;
  writeFileSync(join(directory, "onnx", "model.onnx"), encodeModel(table, words.length));
  const json = (file: string, value: unknown) => writeFileSync(join(directory, file), JSON.stringify(value));
  json("tokenizer.json", describeTokenizer(words));
  json("config.json", { pad_token_id: 0, max_position_embeddings: TOKENS_MAX });
  return directory;
}

function describeTokenizer(words: string[]): unknown {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  return {
    version: "1.0",
    added_tokens: SPECIAL.map((content, id) => ({ id, content, special: true })),
    normalizer: { type: "Lowercase" },
    pre_tokenizer: { type: "Whitespace" },
    post_processor: {
      type: "TemplateProcessing",
      single: [special("[CLS]"), { Sequence: { id: "A", type_id: 0 } }, special("[SEP]")],
      pair: [],
      special_tokens: Object.fromEntries(
        ["[CLS]", "[SEP]"].map((id) => [id, { id, ids: [words.indexOf(id)], tokens: [id] }]),
      ),
    },
    decoder: null,
    model: {
      type: "WordPiece",
      vocab: Object.fromEntries(words.map((word, id) => [word, id])),
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
    },
  };
}

/** A message: pairs of a field number and a value, which is a number, a text, bytes, or a message. */
type Fields = [number, number | string | Uint8Array | Fields][];

function encode(fields: Fields): Uint8Array {
  const writer = new BinaryWriter();
  for (const [number, value] of fields)
    if (typeof value === "number") writer.tag(number, WireType.Varint).int64(value);
    else if (typeof value === "string") writer.tag(number, WireType.LengthDelimited).string(value);
    else
      writer.tag(number, WireType.LengthDelimited).bytes(value instanceof Uint8Array ? value : encode(value));
  return writer.finish();
}

function describeTensor(name: string, type: number, dimensions: string[]): Fields {
  const shape: Fields = dimensions.map((dimension) => [1, [[2, dimension]]]);
  return [
    [1, name],
    [
      2,
      [
        [
          1,
          [
            [1, type],
            [2, shape],
          ],
        ],
      ],
    ],
  ];
}

function encodeModel(table: Float32Array, words: number): Uint8Array {
  const node: Fields = [
    [1, "table"],
    [1, "input_ids"],
    [2, "last_hidden_state"],
    [4, "Gather"],
  ];
  const weights: Fields = [
    [1, words],
    [1, DIMENSIONS],
    [2, FLOAT],
    [8, "table"],
    [9, new Uint8Array(table.buffer)],
  ];
  const graph: Fields = [
    [1, node],
    [2, "sentences"],
    [5, weights],
    [11, describeTensor("input_ids", INT64, ["batch", "sequence"])],
    [12, describeTensor("last_hidden_state", FLOAT, ["batch", "sequence", "numbers"])],
  ];
  return encode([
    [1, 8],
    [7, graph],
    [
      8,
      [
        [1, ""],
        [2, 13],
      ],
    ],
  ]);
}
