"""Authlib before the token service. Arguments: the issuer, the URL of the API, and the clients with their credentials as JSON.
Prints what it saw as JSON. `REQUESTS_CA_BUNDLE` names whom it trusts."""
import json
import sys

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc.jwk import ECKey

issuer, api, client = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
metadata = AuthorizationServerMetadata(requests.get(get_well_known_url(issuer, external=True)).json())
token_endpoint = metadata["token_endpoint"]
said = {"objections": []}
for key in AuthorizationServerMetadata.REGISTRY_KEYS:
    try:
        getattr(metadata, f"validate_{key}")()
    except ValueError:
        said["objections"].append(key)


def error(do):
    try:
        do()
    except OAuthError as error:
        return error.error


class Validator(JWTBearerTokenValidator):
    def get_jwks(self):
        return requests.get(metadata["jwks_uri"]).json()


for method in ("client_secret_basic", "client_secret_post"):
    settings = {"token_endpoint_auth_method": method, "revocation_endpoint_auth_method": method}
    session = OAuth2Session(client["id"], client["secret"], scope="orders:read", **settings)
    first = session.fetch_token(token_endpoint, grant_type="client_credentials")
    calls = [session.get(api).status_code]
    second = session.refresh_token(token_endpoint)
    calls.append(session.get(api).status_code)
    claims = Validator(issuer, "orders-api").authenticate_token(second["access_token"])
    claims.validate()
    seen = session.introspect_token(metadata["introspection_endpoint"], token=second["access_token"]).json()
    session.revoke_token(metadata["revocation_endpoint"], token=second["refresh_token"])
    said[method] = {
        "scope": first["scope"],
        "calls": calls,
        "validated": [claims["client_id"], claims["scope"]],
        "active": seen["active"],
        "revoked": session.get(api).status_code,
        "rotated": first["refresh_token"] != second["refresh_token"],
        "refresh_of_revoked": error(lambda: session.refresh_token(token_endpoint)),
        "scope_of_others": error(lambda: session.fetch_token(token_endpoint, grant_type="client_credentials", scope="orders:refund")),
    }
session = OAuth2Session(client["id"], "wrong")
said["wrong_secret"] = error(lambda: session.fetch_token(token_endpoint, grant_type="client_credentials"))

session = OAuth2Session(client["signer"], ECKey.import_key(client["pem"]), token_endpoint_auth_method="private_key_jwt")
session.register_client_auth_method(PrivateKeyJWT(issuer, alg="ES256"))
token = session.fetch_token(token_endpoint, grant_type="client_credentials")
said["private_key_jwt"] = [token["scope"], session.get(api).status_code]

# Without a secret, and with a certificate. What it got is good on such a connection alone.
session = OAuth2Session("acme-tls", token_endpoint_auth_method="none")
said["without_certificate"] = error(lambda: session.fetch_token(token_endpoint, grant_type="client_credentials"))
session.cert = (client["certificate"], client["key"])
token = session.fetch_token(token_endpoint, grant_type="client_credentials")
other = requests.get(api, headers={"authorization": f"Bearer {token['access_token']}"})
said["certificate"] = [session.get(api).status_code, other.status_code]
print(json.dumps(said))
