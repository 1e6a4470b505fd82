"""Custom authorizers of AWS IoT Core, from its pages "Connecting to AWS IoT Core by using custom authentication".

What the service looks at before it asks the user's function: which authorizer is named, and whether the signature is
that of the token. What the function looks at here: user name and password.
"""

import base64
import binascii
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from aws_limits import Refusal

NAME = "x-amz-customauthorizer-name"
SIGNATURE = "x-amz-customauthorizer-signature"


def refused(detail):
    return Refusal("AUTH_ERROR", detail, 0x87)


class Authorizer:
    """One authorizer with signing, whose key pair is made here."""

    def __init__(self, name, token_key="token", username="gw", password="secret"):
        self.name, self.token_key = name, token_key
        self.username, self.password = username, password
        self.key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)

    def sign(self, token):
        signature = self.key.sign(token.encode(), padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode()

    def check_token(self, pairs):
        """Checks what the service checks: the name, and the token's signature."""
        if pairs.get(NAME) != self.name:
            raise refused(f"no authorizer {pairs.get(NAME)!r}")
        if self.token_key not in pairs:
            raise refused(f"no {self.token_key!r}")
        try:
            signature = base64.b64decode(pairs.get(SIGNATURE, ""), validate=True)
            self.key.public_key().verify(
                signature, pairs[self.token_key].encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except (binascii.Error, InvalidSignature):
            raise refused("a wrong signature") from None

    def check_login(self, username, password):
        """Decides as the user's function does."""
        if username != self.username:
            raise refused(f"user name {username!r}")
        if password != self.password.encode():
            raise refused("a wrong password")


def split_user_name(text):
    """Returns a user's own name, and what stands behind it for the authorizer."""
    name, mark, query = (text or "").partition("?")
    if not mark:
        return name, {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise refused(f"user name: {error}") from None
    if len(dict(pairs)) < len(pairs):
        raise refused("user name: a key comes twice")
    if "+" in query:
        # It stands for a blank in some readers and for itself in others.
        raise refused("user name: `+` is not encoded")
    return name, dict(pairs)
