// Real clients before the token service: `openid-client` and `oauth4webapi`, used as their documentation shows.
// Arguments: the issuer, the URL of the API, and as JSON the clients with their credentials. Prints what they saw as JSON.
import https from "node:https";
import * as oauth from "oauth4webapi";
import * as client from "openid-client";

const [issuer, api, settings] = process.argv.slice(2);
const { id, secret, reader, signer, jwk, shown } = JSON.parse(settings);
const said = {};

async function status(token) {
  const answer = await fetch(api, { headers: { authorization: `Bearer ${token}` } });
  return answer.status;
}

async function error(doing) {
  try {
    await doing;
  } catch (error) {
    return [error.error ?? error.code, error.status ?? error.response?.status];
  }
}

function discover(id, authentication, metadata) {
  return client.discovery(new URL(issuer), id, metadata, authentication, { algorithm: "oauth2" });
}

// `fetch` of a connection with a client certificate.
function showing(certificate) {
  return (url, { method, headers, body }) => new Promise((resolve, reject) => {
    const request = https.request(url, { method, headers, ...certificate }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => {
        const { statusCode: status, headers } = answer;
        resolve(new Response(Buffer.concat(parts), { status, headers }));
      });
    });
    request.on("error", reject);
    request.end(body?.toString());
  });
}

// openid-client: a client with a secret.
const methods = { basic: client.ClientSecretBasic, post: client.ClientSecretPost };
for (const [name, method] of Object.entries(methods)) {
  const config = await discover(id, method(secret));
  const first = await client.clientCredentialsGrant(config, { scope: "orders:read" });
  const second = await client.refreshTokenGrant(config, first.refresh_token);
  const retried = await client.refreshTokenGrant(config, first.refresh_token);
  const own = await client.tokenIntrospection(config, second.access_token);
  const others = await client.tokenIntrospection(await discover(reader, method(secret)), second.access_token);
  said[name] = {
    scope: first.scope,
    calls: [await status(first.access_token), await status(second.access_token)],
    retry: retried.refresh_token === second.refresh_token,
    introspection: [own.active, others.active, others.client_id, others.scope],
  };
  await client.tokenRevocation(config, second.refresh_token);
  const after = await client.tokenIntrospection(config, second.access_token);
  said[name].revoked = [after.active, await status(second.access_token)];
  said[name].refresh_of_revoked = await error(client.refreshTokenGrant(config, second.refresh_token));
  said[name].scope_of_others = await error(client.clientCredentialsGrant(config, { scope: "orders:refund" }));
}
{
  const config = await discover(id, client.ClientSecretBasic("wrong"));
  said.wrong_secret = await error(client.clientCredentialsGrant(config));
}

// openid-client: a client that signs, and whose tokens are bound to a key.
{
  const key = await crypto.subtle.importKey("jwk", jwk, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
  const config = await discover(signer, client.PrivateKeyJwt(key));
  const tokens = await client.clientCredentialsGrant(config);
  said.private_key_jwt = [tokens.scope, await status(tokens.access_token)];
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const bound = await client.clientCredentialsGrant(config, {}, { DPoP });
  const next = await client.refreshTokenGrant(config, bound.refresh_token, {}, { DPoP });
  const calls = (token) => client.fetchProtectedResource(config, token, new URL(api), "GET", undefined, undefined, { DPoP });
  const answers = [await calls(bound.access_token), await calls(next.access_token)];
  said.dpop = [bound.token_type, ...answers.map((answer) => answer.status), await status(next.access_token)];
}

// openid-client: a client with a certificate. The metadata has no aliases, so the endpoints themselves are used.
{
  const config = await discover("acme-tls", client.TlsClientAuth(), { use_mtls_endpoint_aliases: true });
  said.without_certificate = await error(client.clientCredentialsGrant(config));
  config[client.customFetch] = showing(shown);
  const tokens = await client.clientCredentialsGrant(config);
  const answer = await client.fetchProtectedResource(config, tokens.access_token, new URL(api), "GET");
  said.certificate = [answer.status, await status(tokens.access_token)];
}

// oauth4webapi: the same by hand, and a JWT access token that an API validates with the published keys.
{
  const url = new URL(issuer);
  const discovered = await oauth.discoveryRequest(url, { algorithm: "oauth2" });
  const server = await oauth.processDiscoveryResponse(url, discovered);
  const me = { client_id: id };
  const asks = (authentication, scope) =>
    oauth.clientCredentialsGrantRequest(server, me, authentication, new URLSearchParams({ scope }));
  const response = await asks(oauth.ClientSecretBasic(secret), "orders:read");
  const tokens = await oauth.processClientCredentialsResponse(server, me, response);
  const request = new Request(api, { headers: { authorization: `Bearer ${tokens.access_token}` } });
  const claims = await oauth.validateJwtAccessToken(server, request, "orders-api");
  said.validated = [claims.client_id, claims.scope, await status(tokens.access_token)];
  const wrong = await asks(oauth.ClientSecretPost("wrong"), "");
  said.refused = await error(oauth.processClientCredentialsResponse(server, me, wrong));
}
console.log(JSON.stringify(said));
