import { project } from "./project.ts";

/** The worker's thread: projects the vectors of a message, and answers with their points. */
const thread = globalThis as unknown as Worker;

thread.addEventListener("message", ({ data }: MessageEvent<number[][]>) => thread.postMessage(project(data)));
