/** The packages that run models, in the order of their speed; the service brings none: they are large. */
const PACKAGES = ["onnxruntime-node", "onnxruntime-web"];

/** The name of the installed package that runs ONNX models; undefined: there is none. */
export function findRuntime(): string | undefined {
  return PACKAGES.find((name) => {
    try {
      import.meta.resolve(name);
      return true;
    } catch {
      return false;
    }
  });
}

/** Loads ONNX Runtime; throws where it is not installed. */
export async function importRuntime(): Promise<unknown> {
  const name = findRuntime();
  if (name === undefined) throw new Error(`none of ${PACKAGES.join(", ")} is installed`);
  return import(name);
}
