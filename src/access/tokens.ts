import { errors, jwtVerify, type JWTVerifyGetKey } from "jose";
import { ConnectError } from "@connectrpc/connect";
import type { Principal } from "../api/principal.ts";
import { unauthenticated } from "../errors.ts";
import { canBeProject, toPrincipal, type ClaimNames } from "./claims.ts";
import { keep } from "../api/fresh-cache.ts";
import { KeySet } from "./key-set.ts";

/** Which tokens are taken. */
export interface TokenSettings {
  /** Where the identity provider publishes its keys. */
  jwksUrl: string;
  issuer: string;
  /** A token must be for one of them. */
  audiences: readonly string[];
  /** How far the clocks of the provider and of this machine may be apart. */
  clockSkewSeconds: number;
  claims: ClaimNames;
  /** Least time between two fetches for keys that are not known. */
  jwksCooldownMs: number;
}

/** What tokens are checked with. */
export interface TokenOptions extends TokenSettings {
  hasProject: (id: string) => boolean | Promise<boolean>;
  /** Called when the provider's keys cannot be fetched. */
  onFailure: (error: unknown) => void;
}

/** Signatures that a public key verifies. With a secret one, whoever can check tokens could make them. */
const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];

/** Verified tokens kept in memory. */
const VERIFIED_MAX = 5_000;

interface Verified {
  principal: Principal;
  expiresAtMs: number;
}

/**
 * Finds the principals of JSON Web Tokens that an identity provider has signed. A verified token is cached by its
 * SHA-256 until it expires, because verifying a signature takes longer than many a call.
 */
export class TokenVerifier {
  readonly #options: TokenOptions;
  readonly #keySet: KeySet;
  readonly #verified = new Map<string, Verified>();
  /** Counts the changes of the provider's keys: what was verified by keys before must not be cached after. */
  #changes = 0;

  constructor(options: TokenOptions) {
    this.#options = options;
    this.#keySet = new KeySet({
      url: options.jwksUrl,
      cooldownMs: options.jwksCooldownMs,
      onChange: () => {
        this.#changes++;
        this.#verified.clear();
      },
      onFailure: options.onFailure,
    });
  }

  /**
   * Returns the principal of a token; `digest` is the token's SHA-256. Throws UNAUTHENTICATED with the reason, and
   * UNAVAILABLE when neither the cache nor the provider, or not the database, can tell.
   */
  find(token: string, digest: string): Principal | Promise<Principal> {
    const known = this.#verified.get(digest);
    if (known !== undefined && Date.now() < known.expiresAtMs) return this.#requireProject(known.principal);
    return this.#verify(token, digest).then((principal) => this.#requireProject(principal));
  }

  /** Ends the work in the background. */
  async stop(): Promise<void> {
    this.#keySet.stop();
  }

  async #verify(token: string, digest: string): Promise<Principal> {
    const { issuer, audiences, clockSkewSeconds, claims } = this.#options;
    let changes = this.#changes;
    const findKey: JWTVerifyGetKey = async (...named) => {
      const key = await this.#keySet.find(...named);
      changes = this.#changes;
      return key;
    };
    const { payload } = await jwtVerify(token, findKey, {
      algorithms: ALGORITHMS,
      issuer,
      audience: [...audiences],
      clockTolerance: clockSkewSeconds,
      requiredClaims: ["exp"],
    }).catch((error: unknown) => {
      throw error instanceof ConnectError ? error : unauthenticated(describe(error));
    });
    const principal = toPrincipal(payload, claims);
    if (changes === this.#changes)
      keep(this.#verified, digest, { principal, expiresAtMs: Number(payload.exp) * 1000 }, VERIFIED_MAX);
    return principal;
  }

  #requireProject(principal: Principal): Principal | Promise<Principal> {
    const { project } = principal;
    const exists = canBeProject(project) && this.#options.hasProject(project);
    const check = (isLive: boolean) => {
      if (!isLive)
        throw unauthenticated(
          `The token is for the project '${project}', which does not exist or is archived.`,
        );
      return principal;
    };
    return exists instanceof Promise ? exists.then(check) : check(exists);
  }
}

/** Whether a text may be a token: three parts, the first of which is JSON. */
export function isToken(text: string): boolean {
  return /^eyJ[\w-]*\.[\w-]*\.[\w-]*$/.test(text);
}

/** Says why a token is refused, without repeating anything of it. */
function describe(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "The token has expired.";
  if (error instanceof errors.JWTClaimValidationFailed) {
    switch (error.claim) {
      case "aud":
        return "The token is not for the audience of this service.";
      case "iss":
        return "The token is not from the issuer that this service trusts.";
      case "nbf":
        return "The token is not valid yet.";
      default:
        return `The token's claim '${error.claim}' is missing or not valid.`;
    }
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return "The token's signature is not valid.";
  if (error instanceof errors.JOSEAlgNotAllowed)
    return `The token's signature is of a kind that is not taken. Taken are ${ALGORITHMS.join(", ")}.`;
  if (error instanceof errors.JWKSNoMatchingKey)
    return "The token is signed by a key that the identity provider does not publish.";
  if (error instanceof errors.JWKSMultipleMatchingKeys)
    return "The token does not name the key that it is signed with: it has no header 'kid'.";
  return "The token cannot be read.";
}
