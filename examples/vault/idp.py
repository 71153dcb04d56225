#!/usr/bin/env python3
"""An identity provider for this example: opaque tokens, and introspection (RFC 7662) for who has one of the secrets in `idp-secrets`,
one a line. Only for this example."""

import base64
import hmac
import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

TOKENS = {}


class Provider(BaseHTTPRequestHandler):
    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def knows_client(self):
        sent = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode().partition(":")[2]
        return any(hmac.compare_digest(sent, line.strip()) for line in open("idp-secrets"))

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        if self.path == "/token":
            token = secrets.token_urlsafe(24)
            TOKENS[token] = form["client_id"][0]
            self.answer(200, {"access_token": token, "token_type": "Bearer"})
        elif not self.knows_client():
            self.answer(401, {"error": "invalid_client"})
        elif client := TOKENS.get(form["token"][0]):
            self.answer(200, {"active": True, "client_id": client, "scope": "files:read"})
        else:
            self.answer(200, {"active": False})

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", 9002), Provider).serve_forever()
