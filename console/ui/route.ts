import { useEffect, useState } from "preact/hooks";

/** The segments of the address behind "#/", decoded. */
export function readRoute(hash: string): string[] {
  return hash
    .replace(/^#\/?/, "")
    .split("/")
    .filter((segment) => segment !== "")
    .map((segment) => {
      try {
        return decodeURIComponent(segment);
      } catch {
        return segment;
      }
    });
}

/** The address of a page of the console. */
export function linkTo(...segments: string[]): string {
  return `#/${segments.map(encodeURIComponent).join("/")}`;
}

/** Goes to a page. */
export function go(...segments: string[]): void {
  location.hash = linkTo(...segments);
}

/** The segments of the current address. */
export function useRoute(): string[] {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const change = () => setHash(location.hash);
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return readRoute(hash);
}
