import type { FastifyInstance } from "fastify";
import { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { unimplemented } from "../../errors.ts";

/** OpenAI's routes that this version does not support, with the name of the feature. */
const ABSENT = {
  "/v1/uploads": "Uploads",
  "/v1/uploads/*": "Uploads",
} as const;

/**
 * Answers OpenAI's routes for multipart uploads with 501, which unlike 404 says that the URL is right. A
 * Fastify plugin, so that its content type parser applies to these routes only.
 */
export async function fileRoutes(app: FastifyInstance): Promise<void> {
  // Discards the body, so that a form gets 501 and not 415.
  app.addContentTypeParser("multipart/form-data", (_request, payload, done) => {
    payload.resume();
    done(null);
  });
  for (const [url, subject] of Object.entries(ABSENT)) {
    app.all(url, { config: { scope: Scope.FILES_WRITE } }, () => {
      throw unimplemented(`${subject} are not available in this version of pgquiver.`);
    });
  }
}
