"""Fleet provisioning by claim, from the page "Device provisioning MQTT API" of AWS IoT Core.

Certificates are given out by an authority made here. One is not active before its token was used, within an hour and
once; until then nobody gets in with it. A claim may provision and nothing else.
"""

import datetime
import json
import secrets
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aws_limits import Refusal

CREATE = "$aws/certificates/create-from-csr/json"
TOKEN_SECONDS = 3_600
ANSWERS = ("accepted", "rejected")


class Rejected(Exception):
    """A question is answered with no: its status, and what kind of no it is."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.answer = {"statusCode": status, "errorCode": code, "errorMessage": message}


class Fleet:
    """A provisioning template and the certificates that were given out."""

    def __init__(self, template, claims, parameter="SerialNumber"):
        self.register_topic = f"$aws/provisioning-templates/{template}/provision/json"
        self.claims = claims
        self.parameter = parameter
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet")])
        self.authority = self._sign(self.name, self.key.public_key(), is_authority=True)
        # By serial number: whether they are active.
        self.active = {}
        # By token: the serial number, and since when.
        self.tokens = {}
        self.things = {}
        self.asked = {"certificate": 0, "thing": 0}
        # What is not answered: "certificate", "thing" before it is done, or "thing-done" behind it.
        self.silent_at = None
        # What the function that looks at each device says, if it says no.
        self.denies = None

    def _sign(self, subject, key, is_authority=False):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(is_authority, None), True)
        )
        return builder.sign(self.key, hashes.SHA256())

    def authority_pem(self):
        return self.authority.public_bytes(serialization.Encoding.PEM).decode()

    def is_claim(self, certificate):
        return common_name(certificate) in self.claims

    def check_certificate(self, certificate):
        """Lets nobody in with a certificate of ours that is not active."""
        issuer = dict(pair for part in (certificate or {}).get("issuer", ()) for pair in part)
        if issuer.get("commonName") != "fleet":
            return
        if not self.active.get(int(certificate["serialNumber"], 16)):
            raise Refusal("AUTH_ERROR", "a certificate that is not active", 0x87)

    def check_claim(self, topics):
        """A claim may do nothing but provision."""
        own = {self.register_topic, CREATE}
        own |= {f"{topic}/{answer}" for topic in own for answer in ANSWERS}
        for topic in topics:
            if topic not in own:
                raise Refusal("FORBIDDEN_ACCESS", f"a claim may not use {topic[:60]!r}", 0x87)

    def check_asks(self, topic, filters):
        """Whoever asks has subscribed to the answers before."""
        for answer in ANSWERS:
            if f"{topic}/{answer}" not in filters:
                raise Refusal("CLIENT_ERROR", f"asks without a subscription to {answer}", 0x83)

    def answer(self, topic, payload):
        """Returns where the answer goes, and what it is; `None` if there is none."""
        what = "certificate" if topic == CREATE else "thing"
        self.asked[what] += 1
        if self.silent_at == what:
            return None
        try:
            said = json.loads(payload)
            if not isinstance(said, dict):
                raise ValueError("no object")
            answer = self._create(said) if topic == CREATE else self._register(said)
        except Rejected as rejected:
            return f"{topic}/rejected", rejected.answer
        except ValueError as error:
            return f"{topic}/rejected", Rejected(400, "InvalidPayload", str(error)).answer
        if self.silent_at == f"{what}-done":
            return None
        return f"{topic}/accepted", answer

    def _create(self, said):
        try:
            request = x509.load_pem_x509_csr(said["certificateSigningRequest"].encode())
        except (KeyError, AttributeError, ValueError):
            raise Rejected(400, "InvalidCertificateSigningRequest", "it cannot be read") from None
        if not request.is_signature_valid:
            raise Rejected(400, "InvalidCertificateSigningRequest", "a wrong signature")
        certificate = self._sign(request.subject, request.public_key())
        token = secrets.token_urlsafe(32)
        self.active[certificate.serial_number] = False
        self.tokens[token] = (certificate.serial_number, time.monotonic())
        return {
            "certificateId": f"{certificate.serial_number:x}",
            "certificatePem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
            "certificateOwnershipToken": token,
        }

    def _register(self, said):
        serial, since = self.tokens.get(said.get("certificateOwnershipToken"), (None, 0.0))
        if serial is None or time.monotonic() - since > TOKEN_SECONDS:
            raise Rejected(400, "InvalidCertificateOwnershipToken", "the token is not valid")
        parameters = said.get("parameters")
        if not isinstance(parameters, dict) or self.parameter not in parameters:
            raise Rejected(400, "InvalidParameters", f"no {self.parameter}")
        if not all(isinstance(value, str) for value in parameters.values()):
            raise Rejected(400, "InvalidParameters", "a value is no text")
        if self.denies:
            raise Rejected(403, "AccessDenied", self.denies)
        del self.tokens[said["certificateOwnershipToken"]]
        self.active[serial] = True
        thing = f"thing-{parameters[self.parameter]}"
        self.things[thing] = f"{serial:x}"
        return {"deviceConfiguration": {}, "thingName": thing}

    def report(self):
        return {
            "certificates": len(self.active),
            "active": sum(self.active.values()),
            "things": sorted(self.things),
            "asked": self.asked,
        }


def common_name(certificate):
    names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
    return names.get("commonName")
