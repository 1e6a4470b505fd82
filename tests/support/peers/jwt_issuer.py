"""An issuer of JSON Web Tokens: PyJWT makes them, and a server shows the keys, over HTTPS or in the clear."""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from lines import serve

MAKERS = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "PS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def part(value):
    """Returns a part of a compact token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Issuer:
    """Keeps keys by name, signs with them, and shows those that are not hidden."""

    def __init__(self):
        self.keys = {}
        self.shown = []
        self.answer = None
        self.fetches = 0

    def make_key(self, kid, alg, named=True):
        """Makes a key and shows it from now on; without its name and algorithm if not `named`."""
        self.keys[kid] = (alg, MAKERS[alg]())
        self.shown.append((kid, named))

    def hide_key(self, kid):
        """Shows a key no longer; it still signs."""
        self.shown = [(shown, named) for shown, named in self.shown if shown != kid]

    def set_answer(self, status=200, body=None):
        """Answers with this from now on; with the keys if there is no body."""
        self.answer = None if body is None and status == 200 else (status, body or "")

    def public_pem(self, kid):
        """Returns the public key in PEM."""
        return self._public(kid).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def key_set(self):
        """Returns what is shown: a JSON Web Key Set."""
        keys = []
        for kid, named in self.shown:
            alg, _ = self.keys[kid]
            key = json.loads(get_default_algorithms()[alg].to_jwk(self._public(kid)))
            key.pop("key_ops", None)
            keys.append({**key, "kid": kid, "alg": alg, "use": "sig"} if named else key)
        # What others may have in it, and we have no use for.
        keys.append({"kty": "oct", "kid": "shared", "k": part(b"secret")})
        keys.append({"kty": "RSA", "kid": "encryption", "use": "enc", "n": part(b"\xff" * 256), "e": "AQAB"})
        return json.dumps({"keys": keys})

    def sign(self, kid, claims, headers=None, expires=None):
        """Returns a token; `expires` is in seconds from now."""
        alg, key = self.keys[kid]
        return jwt.encode(self._claims(claims, expires), key, alg, {"kid": kid, **(headers or {})})

    def sign_unnamed(self, kid, claims, expires=None):
        """Returns a token that does not say which key has signed it."""
        alg, key = self.keys[kid]
        return jwt.encode(self._claims(claims, expires), key, alg)

    def forge(self, header, claims, secret=None, expires=None):
        """Returns a token that nobody should believe: with an HMAC under `secret`, or an empty signature."""
        signed = f"{part(header)}.{part(self._claims(claims, expires))}"
        if secret is None:
            return f"{signed}."
        return f"{signed}.{part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"

    def counts(self):
        """Returns how often the keys were fetched."""
        return self.fetches

    def _public(self, kid):
        return self.keys[kid][1].public_key()

    @staticmethod
    def _claims(claims, expires):
        return claims if expires is None else {**claims, "exp": time.time() + expires}


def start_server(issuer, cert, key):
    """Serves the keys on loopback and returns the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            issuer.fetches += 1
            status, body = issuer.answer or (200, issuer.key_set())
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cert")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    issuer = Issuer()
    port = start_server(issuer, arguments.cert, arguments.key)
    names = ["make_key", "hide_key", "set_answer", "public_pem", "key_set", "sign", "sign_unnamed", "forge", "counts"]
    await serve({name: getattr(issuer, name) for name in names}, port=port)


if __name__ == "__main__":
    asyncio.run(main())
