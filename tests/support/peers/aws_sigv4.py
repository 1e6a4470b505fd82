"""Signature Version 4 in the URL of a request for WebSocket frames, as AWS IoT Core looks at it.

From its page "Device communication protocols": a session token stands behind the signature and is no part of what is
signed.
"""

import calendar
import hashlib
import hmac
import time
from urllib.parse import quote, unquote

from aws_limits import Refusal

SERVICE = "iotdevicegateway"
# How far a clock may be wrong.
DRIFT_SECONDS = 300
NAMES = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature"]


def refused(detail):
    return Refusal("AUTH_ERROR", f"signed request: {detail}", None)


class Keys:
    """An access key, with a session token if it is a temporary one."""

    def __init__(self, access_key, secret_key, region, token=None, now=time.time):
        self.access_key, self.secret_key = access_key, secret_key
        self.region, self.token, self.now = region, token, now

    def check(self, path, headers):
        """Checks the request for frames at `path` with these headers, whose names are in lower case."""
        path, _, query = path.partition("?")
        if path != "/mqtt":
            raise refused(f"path {path!r}")
        pairs = [pair.partition("=")[::2] for pair in query.split("&")]
        names = [name for name, _ in pairs]
        wanted = NAMES + (["X-Amz-Security-Token"] if self.token else [])
        if names != wanted:
            raise refused(f"{names} where {wanted} are wanted")
        values = dict(pairs)
        if any(quote(unquote(value), safe="") != value for value in values.values()):
            raise refused("it is not encoded as wanted")
        if self.token and unquote(values["X-Amz-Security-Token"]) != self.token:
            raise refused("another session token")
        if (values["X-Amz-Algorithm"], values["X-Amz-SignedHeaders"]) != ("AWS4-HMAC-SHA256", "host"):
            raise refused("algorithm or headers")
        moment = values["X-Amz-Date"]
        try:
            at = calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))
        except ValueError as error:
            raise refused(str(error)) from None
        if abs(self.now() - at) > DRIFT_SECONDS:
            raise refused("a time that is not now")
        scope = f"{moment[:8]}/{self.region}/{SERVICE}/aws4_request"
        if unquote(values["X-Amz-Credential"]) != f"{self.access_key}/{scope}":
            raise refused("another key, region or service")
        signed = "&".join(f"{name}={values[name]}" for name in NAMES[:-1])
        if not hmac.compare_digest(self.sign(signed, headers.get("host", ""), moment), values["X-Amz-Signature"]):
            raise refused("a wrong signature")

    def sign(self, query, host, moment):
        """Returns the signature of a request whose query is `query`."""
        nothing = hashlib.sha256(b"").hexdigest()
        request = "\n".join(["GET", "/mqtt", query, f"host:{host}", "", "host", nothing])
        words = [moment[:8], self.region, SERVICE, "aws4_request"]
        text = "\n".join(
            ["AWS4-HMAC-SHA256", moment, "/".join(words), hashlib.sha256(request.encode()).hexdigest()]
        )
        key = b"AWS4" + self.secret_key.encode()
        for word in words:
            key = hmac.digest(key, word.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()
