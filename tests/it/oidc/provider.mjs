// A real OpenID provider on loopback, for one test: says where it is when it serves, and ends with its standard input.
// A line `rotate` there makes it sign with a new key from now on; it says so, and goes on publishing the ones before.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

// The provider's own notices; standard output is for the test alone.
console.info = console.warn;

const RESOURCES = { 'urn:orders': 'jwt', 'urn:opaque': 'opaque' };

const keys = [];
let serve;

// The keys of a provider are as they were when it was made; what it has issued is kept apart from it.
function signWithNewKey(issuer) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  keys.unshift({ ...privateKey.export({ format: 'jwk' }), use: 'sig' });
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'acme',
      client_secret: 'a-secret-of-this-test',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    }, {
      // Asks about tokens, and proves who it is with a key (RFC 7523), never with a secret.
      client_id: 'bartizan',
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: JSON.parse(process.env.CLIENT_JWKS),
      grant_types: [],
      redirect_uris: [],
      response_types: [],
    }],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: 'orders:read',
          audience: 'orders-api',
          accessTokenFormat: RESOURCES[resource],
          accessTokenTTL: 600,
        }),
      },
    },
    jwks: { keys },
  });
  serve = provider.callback();
}

const server = createServer((request, response) => serve(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  signWithNewKey(issuer);
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    if (line === 'rotate') signWithNewKey(issuer);
    console.log(line === 'rotate' ? 'rotated' : `unknown: ${line}`);
  });
  lines.on('close', () => process.exit(0));
  console.log(issuer);
});
