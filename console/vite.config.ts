import { defineConfig } from "vite";

/** Builds the console into gen/console, which is committed: the service serves it without a build step. */
export default defineConfig({
  root: import.meta.dirname,
  // Relative, so that a proxy may serve the console under a prefix.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../gen/console",
    emptyOutDir: true,
    target: "es2024",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // Inline data would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  worker: { format: "es" },
});
