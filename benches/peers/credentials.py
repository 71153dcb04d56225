"""Keys, a certificate and signed tokens, all made by `openssl`."""

import base64
import json
import subprocess
import time

ISSUER = "https://issuer.bench.example"
AUDIENCE = "orders-api"
SCOPE = "orders:use"


def make_keys(folder):
    """The issuer's RSA key, in the forms in which proxies take it, and the certificate of the listeners."""
    private, public = folder / "issuer.key", folder / "issuer.pem"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    modulus = openssl("rsa", "-pubin", "-in", public, "-modulus", "-noout").decode().strip().partition("=")[2]
    number = base64url(bytes.fromhex(modulus))
    key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "bench", "n": number, "e": "AQAB"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", folder / "tls.key", "-out", folder / "tls.crt")
    (folder / "tls.pem").write_text((folder / "tls.crt").read_text() + (folder / "tls.key").read_text())
    return {
        "issuer": ISSUER, "audience": AUDIENCE, "scope": SCOPE,
        "public_key": public, "jwks": folder / "jwks.json", "public_key_der": pem_body(public),
        "certificate": folder / "tls.crt", "certificate_key": folder / "tls.key",
        "certificate_and_key": folder / "tls.pem",
    }


def token(folder, subject="caller-0", scope=f"{SCOPE} profile", lives=86400):
    """An RS256 token; one that `lives` less than nothing has expired."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": subject, "scope": scope,
              "iat": min(now, now + lives - 60), "exp": now + lives, "jti": f"{subject}-{now}"}
    head = {"alg": "RS256", "typ": "JWT", "kid": "bench"}
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
    return f"{signed}.{base64url(openssl('dgst', '-sha256', '-sign', folder / 'issuer.key', given=signed.encode()))}"


def forged(good, other):
    """The claims of one good token under the signature of another."""
    return f"{good.rpartition('.')[0]}.{other.rpartition('.')[2]}"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pem_body(path):
    return "".join(line for line in path.read_text().splitlines() if not line.startswith("-----"))


def openssl(*arguments, given=None):
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=given, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
