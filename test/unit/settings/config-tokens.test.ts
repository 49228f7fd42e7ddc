import { describe, expect, test } from "vitest";
import { readConfig } from "../../../src/config.ts";

describe("an identity provider", () => {
  const given = {
    AUTH_JWKS_URL: "https://id.example/jwks",
    AUTH_ISSUER: "https://id.example",
    AUTH_AUDIENCE: "pgquiver, another",
  };

  test("closes the service to callers without a token, and so opens it to all addresses", () => {
    expect(readConfig(given)).toMatchObject({
      tokens: {
        jwksUrl: "https://id.example/jwks",
        issuer: "https://id.example",
        audiences: ["pgquiver", "another"],
        clockSkewSeconds: 5,
        claims: { project: "pgquiver_project", scopes: "scope", stores: undefined, readers: "groups" },
        jwksCooldownMs: 5_000,
      },
      listen: { host: "0.0.0.0" },
      requiresKeys: true,
    });
    expect(readConfig({}).tokens).toBeUndefined();
  });

  test.each(["http://127.0.0.1:1/jwks", "http://[::1]/jwks", "http://localhost/jwks"])(
    "may be at %s",
    (url) => {
      expect(readConfig({ ...given, AUTH_JWKS_URL: url }).tokens?.jwksUrl).toBe(url);
    },
  );

  test.each(["http://id.example/jwks", "http://127.0.0.1.id.example/jwks", "file:///jwks", "jwks"])(
    "may not be at %s",
    (url) => {
      expect(() => readConfig({ ...given, AUTH_JWKS_URL: url })).toThrow("AUTH_JWKS_URL: expected a URL");
    },
  );

  test("needs an issuer and an audience", () => {
    expect(() => readConfig({ AUTH_JWKS_URL: given.AUTH_JWKS_URL })).toThrow(
      "AUTH_ISSUER, AUTH_AUDIENCE: needed with AUTH_JWKS_URL",
    );
  });
});
