# Needs no network when it starts: everything is in the image. The base is one build, and the tag says which Node that has; "Release" in
# CONTRIBUTING.md says how to renew it, for Debian's security updates too.
ARG BASE=node:24.21.0-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6
FROM ${BASE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

FROM ${BASE}
# Compiled code is kept beside the program.
ENV NODE_ENV=production NODE_COMPILE_CACHE=/app/.cache DATA_DIRECTORY=/data
WORKDIR /app
RUN mkdir -p /app/.cache /data && chown node:node /app/.cache /data
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY proto ./proto
COPY gen ./gen
COPY src ./src
# Makes what `npm ci` makes in a clone: the template of the embedded database, and most of the compiled code.
RUN node src/start.mjs prepare && chown -R node:node /app/.cache
USER node
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["node", "-e", "process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; fetch(`${process.env.TLS_CERT_FILE ? 'https' : 'http'}://127.0.0.1:${process.env.PORT || 8000}/readyz`).then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "src/start.mjs"]
