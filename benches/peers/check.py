"""Before anything is measured: each proxy must refuse what it should, or its speed says nothing."""

import http.client
import json
import ssl

from child import Trouble
from credentials import forged


def check(stage, name):
    """Every case twice, so that what a proxy remembered of the first time is judged as well."""
    good, expired, unscoped = stage.token(), stage.token(lives=-3600), stage.token(scope="profile", subject="caller-1")
    cases = [("a good token", good, 200), ("no token", None, 401), ("a bad signature", forged(good, unscoped), 401),
             ("an expired token", expired, 401), ("a token without the scope", unscoped, 403)]
    with stage.proxy(name, "secured") as proxy:
        for what, token, expected in cases * 2:
            expect(name, what, expected, ask(plain(stage), "GET", token))
        expect(name, "a good token over TLS 1.3", 200, ask(secure(stage), "GET", good))
        body = stage.order.read_bytes()
        expect(name, "a body that keeps the schema", 200, ask(plain(stage), "POST", good, body))
        if name == "bartizan":
            broken = json.dumps({**json.loads(body), "lines": []}).encode()
            expect(name, "a body that breaks the schema", 422, ask(plain(stage), "POST", good, broken))
        proxy.stop()                                              # and so its last records are written
        expect(name, "the record of who called", True, b"caller-0" in proxy.log.read_bytes())


def expect(name, what, expected, found):
    if found != expected:
        raise Trouble(f"{name}: {what} should give {expected} and gives {found}; nothing is measured")


def ask(connection, method, token, body=None):
    headers = {"content-type": "application/json"} if body else {}
    if token:
        headers["authorization"] = f"Bearer {token}"
    try:
        connection.request(method, "/orders/1" if method == "GET" else "/orders", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def plain(stage):
    return http.client.HTTPConnection("127.0.0.1", stage.port, timeout=10)


def secure(stage):
    return http.client.HTTPSConnection("127.0.0.1", stage.port + 1, timeout=10, context=tls_1_3())


def tls_1_3():
    """A client's side that believes any certificate: ours is made for the run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
