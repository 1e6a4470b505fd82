"""Certificates of an authority, in a folder."""

import datetime
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Makes certificates in a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._write(self._build(name, self.key, True), self.key, name)

    def issue(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(self._build(name, key, False), key, name)
        return name

    def _build(self, name, key, is_authority):
        now = datetime.datetime.now(datetime.timezone.utc)
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, self.name)]
        return (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .add_extension(x509.BasicConstraints(is_authority, None), True)
            .sign(self.key, hashes.SHA256())
        )

    def _write(self, certificate, key, name):
        pem = serialization.Encoding.PEM
        plain = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.path(name, "pem").write_bytes(certificate.public_bytes(pem))
        self.path(name, "key").write_bytes(key.private_bytes(*plain))

    def path(self, name, kind):
        return pathlib.Path(self.folder, f"{name}.{kind}")
