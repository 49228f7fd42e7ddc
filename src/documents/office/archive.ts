import { fromBufferPromise, type Entry } from "yauzl";
import { DocumentError, invalidFile } from "../error.ts";

/** Limits on a ZIP archive, against ZIP bombs. */
export interface ArchiveLimits {
  entriesMax: number;
  /** Uncompressed bytes, over all entries that are read. */
  bytesMax: number;
}

/** Maximum compression ratio of an entry; entries of real Office files have ratios of 10 to 60. */
const RATIO_MAX = 200;
/** Uncompressed size above which the ratio is checked. */
const RATIO_BYTES_MIN = 8_388_608;

/** The entries of a ZIP archive. */
export interface Archive {
  /**
   * Streams the uncompressed bytes of an entry, once: empty the second time, and if the entry does not exist. A
   * hostile file would otherwise refer to one entry thousands of times.
   */
  read(name: string): AsyncIterable<Uint8Array>;
}

/**
 * Reads the central directory of a ZIP archive. Throws `invalid_file`, here or from `read`, when the archive
 * is damaged, encrypted or a ZIP bomb.
 */
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
    async *read(name) {
      const entry = entries.get(name);
      if (entry === undefined) return;
      entries.delete(name);
      if (entry.isEncrypted()) throw invalidFile("The file is protected by a password.");
      const { uncompressedSize: size, compressedSize } = entry;
      if (size > bytesLeft || (size > RATIO_BYTES_MIN && size > RATIO_MAX * compressedSize)) {
        throw invalidFile("The file is a small archive that expands to a very large one.");
      }
      try {
        // yauzl fails at the first byte beyond the declared size, so a false size cannot bypass the checks
        // above.
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
  throw error instanceof DocumentError ? error : invalidFile("The file is damaged or truncated.", error);
}
