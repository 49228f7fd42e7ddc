import { posix } from "node:path";
import type { Archive } from "./archive.ts";
import { readXml } from "./xml.ts";

/** How one part of an Office file refers to another. */
export interface Relation {
  id: string;
  /** The last word of its type, such as `slide`. */
  type: string;
  /** The name of the other part in the archive. */
  target: string;
}

/** The relations of a part; those of the whole file for the empty name. */
export async function readRelations(archive: Archive, part: string): Promise<Relation[]> {
  const relations: Relation[] = [];
  const folder = posix.dirname(part);
  await readXml(archive.read(posix.join(folder, "_rels", `${posix.basename(part)}.rels`)), {
    open(name, { Id: id = "", Type: type = "", Target: target = "", TargetMode: mode }) {
      if (name !== "Relationship" || mode === "External") return;
      const path = target.startsWith("/") ? target.slice(1) : posix.join(folder, target);
      relations.push({ id, type: posix.basename(type), target: path });
    },
  });
  return relations;
}

/** The id of the relation that a tag names: the attribute `r:id`, whatever its prefix. */
export function relationId(attributes: Record<string, string>): string | undefined {
  return Object.entries(attributes).find(([name]) => name.endsWith(":id"))?.[1];
}
