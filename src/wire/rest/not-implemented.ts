import type { FastifyInstance } from "fastify";
import { unimplemented } from "../../errors.ts";

/** OpenAI's routes this version does not serve, with what they are for. */
const ABSENT = {
  "/v1/uploads": "Uploads",
  "/v1/uploads/*": "Uploads",
} as const;

/**
 * Answers OpenAI's routes for uploads in parts with 501 rather than 404: the URL is right, the version is early. A
 * Fastify plugin, because the content type it adds is for these routes only.
 */
export async function fileRoutes(app: FastifyInstance): Promise<void> {
  // The body is not looked at, so its type does not matter.
  app.addContentTypeParser("multipart/form-data", (_request, payload, done) => {
    payload.resume();
    done(null);
  });
  for (const [url, subject] of Object.entries(ABSENT)) {
    app.all(url, () => {
      throw unimplemented(`${subject} are not available in this version of pgquiver.`);
    });
  }
}
