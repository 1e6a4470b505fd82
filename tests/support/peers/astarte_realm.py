"""A realm of Astarte: its pairing service, and its broker with the server behind it.

The rules are in astarte_rules.py. A device that breaks one is disconnected and its session forgotten, as the server does
it; what it broke stands in `errors`. Certificates come from an authority of the realm's own: only the last one given out
is taken.
"""

import argparse
import asyncio
import datetime
import json
import ssl
import struct
from pathlib import Path

import bson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from astarte_rules import Realm, Violation, read_list, violate, write_list
from lines import serve, wait_until

VALUES_MAX = 1_000_000
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 5, 6, 7, 8, 9
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14


def now():
    return datetime.datetime.now(datetime.timezone.utc)


class Authority:
    """Signs what devices ask for."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "realm")])
        self.certificate = self._sign(name, self.key.public_key(), 3_650 * 86_400, authority=True, issuer=name)

    def _sign(self, name, key, lifetime, authority=False, issuer=None, hosts=()):
        before = now() - datetime.timedelta(seconds=2)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer or self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(before)
            .not_valid_after(now() + datetime.timedelta(seconds=lifetime))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(hosts)), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def give_out(self, request, name, lifetime):
        """Signs a request; the name is the realm's to choose."""
        request = x509.load_pem_x509_csr(request.encode())
        if not request.is_signature_valid:
            raise ValueError("the request is not signed by its key")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._sign(subject, request.public_key(), lifetime), request

    def server(self, folder):
        """Makes what the realm's own servers show."""
        import ipaddress

        key = ec.generate_private_key(ec.SECP256R1())
        hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        certificate = self._sign(name, key.public_key(), 86_400, hosts=hosts)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "ca.pem").write_bytes(self.pem(self.certificate))
        (folder / "server.pem").write_bytes(self.pem(certificate) + pem)
        return folder / "server.pem"

    @staticmethod
    def pem(certificate):
        return certificate.public_bytes(serialization.Encoding.PEM)


class Session:
    """What the server knows of a device, beside its properties."""

    def __init__(self):
        self.subscriptions = []
        self.introspection = {}
        # QoS 2: identifiers that the device has not released.
        self.unreleased = set()
        # What waits for the device, and what it has not acknowledged.
        self.queue = []


class Astarte:
    """The realm with one device."""

    def __init__(self, options):
        self.options = options
        self.base = f"{options.realm}/{options.device}"
        self.realm = Realm.of_folder(options.interfaces)
        self.authority = Authority()
        self.lifetime = options.lifetime
        self.serial = None
        self.certificates = []
        self.ends = None
        self.requests = []
        self.script = []
        self.session = None
        self.connection = None
        self.connections = 0
        self.hold = False
        self.refuses = None
        self.turned_away = 0
        self.window = 1
        self.log = []
        self.errors = []
        self.values = []
        self.ours = {}  # properties of the device, by interface and path
        self.theirs = {}  # properties of the server, as payloads

    # Pairing.

    async def serve_http(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            method, path, _ = lines[0].split(" ")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status, answer = self.answer(method, path, headers, body)
            text = json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, method, path, headers, body):
        self.requests.append(f"{method} {path}")
        if self.script:
            return self.script.pop(0)
        if headers.get("authorization") != f"Bearer {self.options.secret}":
            return 401, {"errors": {"detail": f"no such secret: {headers.get('authorization')}"}}
        own = f"/pairing/v1/{self.options.realm}/devices/{self.options.device}"
        if not path.startswith(own):
            return 404, {"errors": {"detail": "Device not found"}}
        data = json.loads(body)["data"] if body else None
        below = path.removeprefix(own)
        if (method, below) == ("GET", ""):
            broker = {"broker_url": f"mqtts://127.0.0.1:{self.mqtt_port}"}
            return 200, {"data": {"version": "1", "status": "confirmed", "protocols": {"astarte_mqtt_v1": broker}}}
        if (method, below) == ("POST", "/protocols/astarte_mqtt_v1/credentials"):
            try:
                certificate, request = self.authority.give_out(data["csr"], self.base, self.lifetime)
            except ValueError as error:
                return 422, {"errors": {"csr": [str(error)]}}
            names = [name.value for name in request.subject]
            if names != [self.base]:
                return 422, {"errors": {"csr": [f"the request is for {names}"]}}
            self.serial = certificate.serial_number
            self.certificates.append(self.serial)
            self.ends = certificate.not_valid_after_utc
            return 201, {"data": {"client_crt": self.authority.pem(certificate).decode()}}
        if (method, below) == ("POST", "/protocols/astarte_mqtt_v1/credentials/verify"):
            certificate = x509.load_pem_x509_certificate(data["client_crt"].encode())
            is_valid = certificate.serial_number == self.serial and certificate.not_valid_after_utc > now()
            return 200, {"data": {"valid": is_valid, "timestamp": 0, "until": 0}}
        return 404, {"errors": {"detail": "Not found"}}

    # The broker.

    async def serve_mqtt(self, reader, writer):
        shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
        names = [name.value for name in shown.subject]
        if shown.serial_number != self.serial or names != [self.base]:
            self.log.append("revoked")
            writer.close()
            return
        if self.connection is not None:
            self.connection.close()
        self.connection = connection = Connection(self, reader, writer)
        try:
            await connection.run()
        except Violation as violation:
            self.errors.append({"error": str(violation), "at": connection.at})
            self.session = None
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError, ssl.SSLError):
            pass
        finally:
            if self.connection is connection:
                self.connection = None
            writer.close()

    def publish(self, topic, payload, qos):
        """Publishes to the device, now or when it comes back."""
        if self.session is None:
            return
        self.session.queue.append((topic, payload, qos))
        if self.connection is not None:
            self.connection.deliver()

    # What tests ask for.

    def report(self):
        is_set = sorted(self.ours)
        return {
            "connected": self.connection is not None and self.connection.is_up,
            "connections": self.connections,
            "session": self.session is not None,
            "introspection": sorted(self.session.introspection) if self.session else None,
            "turned_away": self.turned_away,
            "values": len(self.values),
            "waiting": self.waiting(),
            "errors": self.errors,
            "properties": {key: self.ours[key] for key in is_set},
            "certificates": len(self.certificates),
            "ended": self.ends is not None and now() > self.ends,
            "requests": self.requests,
            "log": self.log,
        }

    def waiting(self):
        """Counts what the device has not acknowledged."""
        queued = len(self.session.queue) if self.session else 0
        return queued + (len(self.connection.unanswered) if self.connection else 0)

    def set_property(self, interface, path, value):
        key = f"{interface}{path}"
        self.theirs[key] = bson.encode({"v": value})
        self.publish(f"{self.base}/{key}", self.theirs[key], 2)

    def unset_property(self, interface, path, quietly=False):
        key = f"{interface}{path}"
        self.theirs.pop(key, None)
        if not quietly:
            self.publish(f"{self.base}/{key}", b"", 2)

    def send(self, interface, path, value, qos):
        self.publish(f"{self.base}/{interface}{path}", bson.encode({"v": value}), qos)

    def drop(self, forget=False):
        """Cuts the connection; with `forget` the session, too."""
        if forget:
            self.session = None
        if self.connection is not None:
            self.connection.close()

    async def listen(self, how="tls"):
        """Listens on the same port from now on as a broker does, or is `deaf`: hangs up on who comes."""
        self.broker.close()
        serve, tls = (self.turn_away, None) if how == "deaf" else (self.serve_mqtt, self.mqtts)
        self.broker = await asyncio.start_server(serve, "127.0.0.1", self.mqtt_port, ssl=tls)

    async def turn_away(self, _, writer):
        self.turned_away += 1
        writer.close()

    def revoke(self):
        """Takes no certificate that was given out so far."""
        self.serial = None
        self.drop()

    def change(self, hold=None, lifetime=None, script=None, window=None, refuses=None):
        if hold is not None:
            self.hold = hold
        if lifetime is not None:
            self.lifetime = lifetime
        if refuses is not None:
            self.refuses = refuses
        if window is not None:
            self.window = window
            if self.connection is not None:
                self.connection.deliver()
        if script is not None:
            self.script = [tuple(answer) for answer in script]

    async def wait(self, count, timeout=20.0):
        """Waits until so many values are there, and returns all."""
        if not await wait_until(lambda: len(self.values) >= count, timeout):
            raise TimeoutError(f"{len(self.values)} of {count} values; errors {self.errors[-3:]}; {self.log[-5:]}")
        return self.values


class Connection:
    """One connection of the device."""

    def __init__(self, astarte, reader, writer):
        self.astarte = astarte
        self.reader = reader
        self.writer = writer
        self.at = ""
        self.is_up = False
        self.next_id = 1
        self.unanswered = {}
        self.refused = False

    def close(self):
        self.writer.transport.abort()

    def say(self, kind, flags, body):
        length, size = bytearray(), len(body)
        while True:
            size, digit = divmod(size, 128)
            length.append(digit | (128 if size else 0))
            if not size:
                break
        self.writer.write(bytes([kind << 4 | flags]) + bytes(length) + body)

    async def hear(self):
        (head,) = await self.reader.readexactly(1)
        length, shift = 0, 0
        while True:
            (digit,) = await self.reader.readexactly(1)
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
            if shift > 21:
                violate("a length of more than four bytes")
        return head >> 4, head & 15, await self.reader.readexactly(length)

    async def run(self):
        kind, _, body = await self.hear()
        if kind != CONNECT or body[:7] != b"\0\4MQTT\4":
            violate("no CONNECT of MQTT 3.1.1")
        flags, keep_alive = body[7], struct.unpack(">H", body[8:10])[0]
        if flags & ~2 or not keep_alive:
            violate(f"flags {flags:#x}, keep alive {keep_alive}")
        astarte = self.astarte
        if flags & 2:
            astarte.session = None
        present = astarte.session is not None
        if not present:
            astarte.session = Session()
        astarte.connections += 1
        astarte.log.append(f"CONNECT {'present' if present else 'new'}")
        self.is_up = True
        self.say(CONNACK, 0, bytes([present, 0]))
        self.deliver()
        while True:
            kind, flags, body = await asyncio.wait_for(self.hear(), keep_alive * 1.5)
            if kind == DISCONNECT:
                astarte.log.append("DISCONNECT")
                return
            await self.handle(kind, flags, body)
            await self.writer.drain()

    async def handle(self, kind, flags, body):
        session = self.astarte.session
        if kind == PUBLISH:
            self.handle_publish(flags, body)
        elif kind == PUBREL:
            session.unreleased.discard(body)
            self.say(PUBCOMP, 0, body)
            if self.refused:
                # The broker has taken it; the server finds out.
                await self.writer.drain()
                violate("value_refused")
        elif kind in (PUBACK, PUBCOMP):
            self.unanswered.pop(body, None)
            self.deliver()
        elif kind == PUBREC:
            self.say(PUBREL, 2, body)
        elif kind == SUBSCRIBE:
            self.handle_subscribe(body)
        elif kind == PINGREQ:
            if not self.astarte.hold:
                self.say(PINGRESP, 0, b"")
        else:
            violate(f"a packet of type {kind}")

    def handle_subscribe(self, body):
        astarte, rest, granted = self.astarte, body[2:], []
        while rest:
            (length,) = struct.unpack(">H", rest[:2])
            topic, qos, rest = rest[2 : 2 + length].decode(), rest[2 + length], rest[3 + length :]
            if not topic.startswith(f"{astarte.base}/") or qos != 2:
                violate(f"a subscription to {topic} with QoS {qos}")
            astarte.log.append(f"SUBSCRIBE {topic.removeprefix(astarte.base)}")
            granted.append(qos)
            if topic not in astarte.session.subscriptions:
                astarte.session.subscriptions.append(topic)
        self.say(SUBACK, 0, body[:2] + bytes(granted))

    def handle_publish(self, flags, body):
        astarte, session = self.astarte, self.astarte.session
        (length,) = struct.unpack(">H", body[:2])
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        qos, self.at = flags >> 1 & 3, topic
        packet = b""
        if qos:
            packet, rest = rest[:2], rest[2:]
        if flags & 1:
            violate("a retained message")
        if topic != astarte.base and not topic.startswith(f"{astarte.base}/"):
            violate("a topic that is not the device's")
        # Whoever uses an identifier again that was not released says the same again (MQTT 3.1.1, section 4.3.3).
        if qos != 2 or packet not in session.unreleased:
            self.take(topic.removeprefix(astarte.base), rest, qos)
        if astarte.session is None:
            self.close()
            return
        if qos == 2:
            session.unreleased.add(packet)
        if astarte.hold:
            return
        if qos == 1:
            self.say(PUBACK, 0, packet)
        elif qos == 2:
            self.say(PUBREC, 0, packet)

    def take(self, below, payload, qos):
        """Takes what the device has published below its own topic."""
        astarte, session = self.astarte, self.astarte.session
        if below == "" or below.startswith("/control/"):
            if qos != 2:
                violate(f"a control message with QoS {qos}")
            astarte.log.append(f"PUBLISH {below}")
        if below == "":
            session.introspection = astarte.realm.read_introspection(payload)
        elif below == "/control/emptyCache":
            self.empty_cache(payload)
        elif below == "/control/producer/properties":
            entries = read_list(payload)
            astarte.ours = {key: value for key, value in astarte.ours.items() if key in entries}
        elif below.startswith("/control/"):
            violate("unexpected_control_message")
        else:
            name, _, path = below[1:].partition("/")
            self.take_data(name, f"/{path}", payload, qos)

    def empty_cache(self, payload):
        astarte = self.astarte
        consumer = f"{astarte.base}/control/consumer/properties"
        if payload != b"1":
            violate("empty_cache_error")
        if consumer not in astarte.session.subscriptions:
            violate("device_session_not_found")
        astarte.publish(consumer, write_list(sorted(astarte.theirs)), 2)
        for key, value in sorted(astarte.theirs.items()):
            astarte.publish(f"{astarte.base}/{key}", value, 2)

    def take_data(self, name, path, payload, qos):
        astarte = self.astarte
        interface, value, time = astarte.realm.check_data(astarte.session.introspection, name, path, payload, qos)
        shown = json.loads(json.dumps(value, default=lambda it: it.hex() if isinstance(it, bytes) else str(it)))
        if astarte.refuses == [f"{name}{path}", shown]:
            self.refused = True
            return
        if interface["type"] == "properties":
            astarte.log.append(f"PUBLISH /{name}{path}")
            if value is None:
                astarte.ours.pop(f"{name}{path}", None)
            else:
                astarte.ours[f"{name}{path}"] = shown
        if len(astarte.values) >= VALUES_MAX:
            raise OverflowError("too many values")
        millis = int(time.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000) if time else None
        astarte.values.append({"interface": name, "path": path, "v": shown, "t": millis, "qos": qos})

    def deliver(self):
        """Sends what waits, so many messages at a time."""
        session = self.astarte.session
        while session is not None and session.queue and len(self.unanswered) < self.astarte.window:
            topic, payload, qos = session.queue.pop(0)
            name = topic.encode()
            body = struct.pack(">H", len(name)) + name
            if qos:
                packet = struct.pack(">H", self.next_id)
                self.next_id = self.next_id % 65_535 + 1
                self.unanswered[packet] = topic
                body += packet
            self.say(PUBLISH, qos << 1, body + payload)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="for certificates")
    parser.add_argument("--interfaces", type=Path, required=True)
    parser.add_argument("--realm", default="test")
    parser.add_argument("--device", default="V_zv6ThCCtXWveQ8mPjsKg")
    parser.add_argument("--secret", default="s3cret")
    parser.add_argument("--lifetime", type=int, default=3_600, help="of certificates, in seconds")
    options = parser.parse_args()
    astarte = Astarte(options)
    shown = astarte.authority.server(options.folder)
    https = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    https.load_cert_chain(shown)
    mqtts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mqtts.load_cert_chain(shown)
    mqtts.load_verify_locations(options.folder / "ca.pem")
    mqtts.verify_mode = ssl.CERT_REQUIRED
    pairing = await asyncio.start_server(astarte.serve_http, "127.0.0.1", 0, ssl=https)
    astarte.mqtts = mqtts
    astarte.broker = await asyncio.start_server(astarte.serve_mqtt, "127.0.0.1", 0, ssl=mqtts)
    astarte.mqtt_port = astarte.broker.sockets[0].getsockname()[1]
    requests = {
        "report": astarte.report,
        "wait": astarte.wait,
        "set": astarte.set_property,
        "unset": astarte.unset_property,
        "send": astarte.send,
        "drop": astarte.drop,
        "listen": astarte.listen,
        "revoke": astarte.revoke,
        "change": astarte.change,
    }
    await serve(requests, pairing=pairing.sockets[0].getsockname()[1])


if __name__ == "__main__":
    asyncio.run(main())
