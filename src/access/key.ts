import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";

/** What keys begin with, so that scanners for secrets find them in code and logs. */
const PREFIX = "pgq_";
/** Characters of 256 bits, and of the checksum's 32 bits, in base 62. */
const SECRET_CHARS = 43;
const CHECKSUM_CHARS = 6;
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** A new key: the only time that the key itself is known. */
export interface NewKey {
  value: string;
  /** SHA-256, by which the key is stored and found. */
  digest: Buffer;
  /** The beginning and the end of the key. */
  redacted: string;
}

/** Makes a key: `pgq_`, 256 random bits in base 62, and their CRC-32. */
export function makeKey(): NewKey {
  const secret = toBase62(BigInt(`0x${randomBytes(32).toString("hex")}`), SECRET_CHARS);
  const value = `${PREFIX}${secret}${checksum(secret)}`;
  return {
    value,
    digest: Buffer.from(hash("sha256", value, "hex"), "hex"),
    redacted: `${value.slice(0, PREFIX.length + 4)}...${value.slice(-4)}`,
  };
}

/**
 * The SHA-256 by which the rights of a certificate's holders are stored and found. No key has it: keys begin otherwise.
 */
export function certificateDigest(subject: string): Buffer {
  return Buffer.from(hash("sha256", `certificate ${subject}`, "hex"), "hex");
}

/** Whether a text has the form of a key: others are refused without asking the database. */
export function isKey(text: string): boolean {
  if (!text.startsWith(PREFIX) || text.length !== PREFIX.length + SECRET_CHARS + CHECKSUM_CHARS) return false;
  const secret = text.slice(PREFIX.length, -CHECKSUM_CHARS);
  return text.endsWith(checksum(secret));
}

function checksum(secret: string): string {
  return toBase62(BigInt(crc32(secret)), CHECKSUM_CHARS);
}

function toBase62(number: bigint, chars: number): string {
  let text = "";
  for (let rest = number; text.length < chars; rest /= 62n) text = `${DIGITS[Number(rest % 62n)]}${text}`;
  return text;
}
