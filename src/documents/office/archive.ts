import { fromBufferPromise, type Entry } from "yauzl";
import { DocumentError, invalidFile } from "../error.ts";

/** Bounds on what an archive may hold. */
export interface ArchiveLimits {
  entriesMax: number;
  /** Bytes that all entries read may expand to. */
  bytesMax: number;
}

/** How many times larger than stored an entry may be; those of Office files are 10 to 60 times larger. */
const RATIO_MAX = 200;
/** From this size on it matters. */
const RATIO_BYTES_MIN = 8_388_608;

/** The entries of a zip archive. */
export interface Archive {
  has(name: string): boolean;
  /** The bytes of an entry, expanded as they are taken; none if there is no such entry. */
  read(name: string): AsyncIterable<Uint8Array>;
}

/** Reads the directory of an archive. Throws invalid_file for one that is damaged, locked or a bomb. */
export async function openArchive(bytes: Buffer, limits: ArchiveLimits): Promise<Archive> {
  const entries = new Map<string, Entry>();
  const zip = await fromBufferPromise(bytes, { lazyEntries: true }).catch(refuse);
  try {
    if (zip.entryCount > limits.entriesMax) {
      throw invalidFile(`The file is an archive of more than ${limits.entriesMax} entries.`);
    }
    for await (const entry of zip.eachEntry()) entries.set(entry.fileName, entry);
  } catch (error) {
    refuse(error);
  }
  let bytesLeft = limits.bytesMax;
  return {
    has: (name) => entries.has(name),
    async *read(name) {
      const entry = entries.get(name);
      if (entry === undefined) return;
      if (entry.isEncrypted()) throw invalidFile("The file is protected by a password.");
      const { uncompressedSize: size, compressedSize } = entry;
      if (size > bytesLeft || (size > RATIO_BYTES_MIN && size > RATIO_MAX * compressedSize)) {
        throw invalidFile("The file is a small archive that expands to a very large one.");
      }
      try {
        // Fails at the first byte beyond the size that the directory tells.
        for await (const part of await zip.openReadStreamPromise(entry)) {
          const data: Uint8Array = part;
          bytesLeft -= data.length;
          yield data;
        }
      } catch (error) {
        refuse(error);
      }
    },
  };
}

function refuse(error: unknown): never {
  throw error instanceof DocumentError ? error : invalidFile("The file is damaged or cut off.", error);
}
