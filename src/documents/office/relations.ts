import { posix } from "node:path";
import type { Archive } from "./archive.ts";
import { readXml } from "./xml.ts";

/** A relationship between two parts of an Office file (Open Packaging Conventions, ECMA-376 part 2). */
export interface Relation {
  id: string;
  /** The last path segment of the relationship's type URI, such as `slide`. */
  type: string;
  /** Name of the target part in the archive. */
  target: string;
}

/**
 * Reads the relationships of a part; of the package itself for the empty name. External targets are left out.
 */
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

/** The targets of relationships, by id. */
export function targetsById(relations: readonly Relation[]): Map<string | undefined, string> {
  return new Map(relations.map(({ id, target }) => [id, target]));
}

/** The relationship id in a tag's attributes: `r:id`, with whatever namespace prefix the file uses. */
export function relationId(attributes: Record<string, string>): string | undefined {
  return Object.entries(attributes).find(([name]) => name.endsWith(":id"))?.[1];
}
