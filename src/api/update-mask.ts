import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { invalidArgument } from "../errors.ts";

/**
 * Returns the fields that an update changes: those that the mask names or, without a mask, those that the
 * request sets. `isSet` maps each changeable field, by its name in the proto file, to whether the request
 * sets the field. Throws INVALID_ARGUMENT for a mask with another field.
 */
export function readUpdateMask<Field extends string>(
  mask: FieldMask | undefined,
  isSet: Record<Field, boolean>,
): ReadonlySet<Field> {
  const changeable = Object.keys(isSet) as Field[];
  const paths = mask?.paths ?? [];
  for (const path of paths) {
    if (!(changeable as string[]).includes(path)) {
      throw invalidArgument(
        "update_mask",
        `Invalid 'update_mask': '${path}' cannot be changed. Supported values are: ${changeable.join(", ")}.`,
      );
    }
  }
  return new Set(paths.length > 0 ? (paths as Field[]) : changeable.filter((field) => isSet[field]));
}
