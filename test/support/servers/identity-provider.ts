import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, importJWK, SignJWT, type JWK } from "jose";
import { Provider } from "oidc-provider";
import { SCOPE_WORDS } from "../../../src/api/scope.ts";
import type { Config } from "../../../src/config.ts";

/** What a token is to say. */
export interface TokenRequest {
  /** Default: the audience of the service. */
  audience?: string;
  /** Default: all. */
  scopes?: readonly string[];
  /** Claims beside those of the provider's own; default: the project `default`. */
  claims?: Record<string, unknown>;
  /** Default: an hour. */
  seconds?: number;
}

/** An OpenID Connect provider, the real one of npm, on loopback. */
export interface IdentityProvider extends AsyncDisposable {
  issuer: string;
  jwksUrl: string;
  /** Settings of a service that takes the provider's tokens. */
  settings: NonNullable<Config["tokens"]>;
  /** The private keys; the first signs. */
  keys: JWK[];
  /** How often the public keys were asked for. */
  fetches: () => number;
  /** Gets a token by the grant `client_credentials`. */
  issue: (request?: TokenRequest) => Promise<string>;
  /** Signs with another key from now on, and publishes no other. */
  rotate: () => Promise<void>;
  /** Answers requests for the keys by something else; undefined: again by the keys. */
  replaceKeys: (answer: ((request: IncomingMessage, response: ServerResponse) => void) | undefined) => void;
}

const AUDIENCE = "https://pgquiver.example";

/** Starts a provider. */
export async function startIdentityProvider(): Promise<IdentityProvider> {
  let wanted: TokenRequest = {};
  let fetches = 0;
  let answer: Parameters<IdentityProvider["replaceKeys"]>[0];
  let handle: (request: IncomingMessage, response: ServerResponse) => unknown = () => {};
  const server = createServer((request, response) => {
    if (request.url === "/jwks") {
      fetches++;
      if (answer !== undefined) return answer(request, response);
    }
    handle(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const keys: JWK[] = [];
  const rotate = async () => {
    const { privateKey } = await generateKeyPair("RS256", { extractable: true });
    keys.splice(0, keys.length, { ...(await exportJWK(privateKey)), use: "sig", alg: "RS256" });
    handle = createProvider(issuer, keys, () => wanted).callback();
  };
  await rotate();
  return {
    issuer,
    jwksUrl: `${issuer}/jwks`,
    settings: {
      jwksUrl: `${issuer}/jwks`,
      issuer,
      audiences: [AUDIENCE],
      clockSkewSeconds: 0,
      claims: { project: "pgquiver_project", scopes: "scope", stores: undefined, readers: "groups" },
      jwksCooldownMs: 0,
    },
    keys,
    fetches: () => fetches,
    async issue(request = {}) {
      wanted = request;
      const { audience = AUDIENCE, scopes = SCOPE_WORDS } = request;
      const form = { grant_type: "client_credentials", resource: audience, scope: scopes.join(" ") };
      const reply = await fetch(`${issuer}/token`, {
        method: "POST",
        headers: { authorization: `Basic ${btoa("crawler:a-secret-of-the-client")}` },
        body: new URLSearchParams(form),
      });
      const text = await reply.text();
      if (reply.status !== 200) throw new Error(text);
      return (JSON.parse(text) as { access_token: string }).access_token;
    },
    rotate,
    replaceKeys: (other) => (answer = other),
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function createProvider(issuer: string, keys: JWK[], wanted: () => TokenRequest): Provider {
  return new Provider(issuer, {
    jwks: { keys: keys as never },
    clients: [
      {
        client_id: "crawler",
        client_secret: "a-secret-of-the-client",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
      },
    ],
    scopes: [...SCOPE_WORDS],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, audience) => ({
          scope: SCOPE_WORDS.join(" "),
          audience,
          accessTokenTTL: wanted().seconds ?? 3_600,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
    extraTokenClaims: () => ({ pgquiver_project: "default", ...wanted().claims }) as never,
  });
}

/**
 * Makes what signs tokens of users with groups, which are their readers, as the provider signs its own. Without groups a token
 * lacks the claim.
 */
export async function userTokens(
  provider: IdentityProvider,
): Promise<(groups: readonly string[] | undefined) => Promise<string>> {
  const published = (await (await fetch(provider.jwksUrl)).json()) as { keys: { kid: string }[] };
  const kid = published.keys[0]?.kid as string;
  const scope =
    "search stores.read stores.write embeddings.read embeddings.write ingest files.read files.write indexes.admin";
  return async (groups) =>
    new SignJWT({ scope, pgquiver_project: "default", ...(groups && { groups }) })
      .setIssuer(provider.issuer)
      .setAudience(provider.settings.audiences[0] as string)
      .setSubject("user")
      .setExpirationTime("1h")
      .setProtectedHeader({ alg: "RS256", kid })
      .sign(await importJWK(provider.keys[0] as never, "RS256"));
}
