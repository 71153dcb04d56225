#!/usr/bin/env python3
"""An OAuth issuer for this example: discovery, one RSA key, a token for every client. Only for this example."""

import base64
import json
import os
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

ISSUER = "http://127.0.0.1:9002"
KEY = "issuer.key"


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, **more).stdout


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


if not os.path.exists(KEY):
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", KEY)
modulus = openssl("rsa", "-in", KEY, "-noout", "-modulus").decode().strip().partition("=")[2]
JWK = {"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "n": encode(bytes.fromhex(modulus)), "e": "AQAB"}
DOCUMENTS = {
    "/.well-known/openid-configuration": {"issuer": ISSUER, "jwks_uri": ISSUER + "/jwks", "token_endpoint": ISSUER + "/token"},
    "/jwks": {"keys": [JWK]},
}


def token(client, scope):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "files-api", "sub": client, "client_id": client, "scope": scope,
              "iat": now, "exp": now + 600, "jti": os.urandom(16).hex()}
    header = {"alg": "RS256", "typ": "at+jwt", "kid": JWK["kid"]}
    signed = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    return signed + "." + encode(openssl("dgst", "-sha256", "-sign", KEY, input=signed.encode()))


class Issuer(BaseHTTPRequestHandler):
    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        document = DOCUMENTS.get(self.path)
        self.answer(200 if document else 404, document or {"error": "not_found"})

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        text = token(form.get("client_id", ["somebody"])[0], form.get("scope", [""])[0])
        self.answer(200, {"access_token": text, "token_type": "Bearer", "expires_in": 600})

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", 9002), Issuer).serve_forever()
