"""A stand-in for AWS IoT Core, as strict as its documents: what it would close a connection for, this closes it for.

`test_aws_iot_core.py` shows for each check that it catches a client that breaks it. Five ports: one as 8883, and four
as 443: by the application protocol of certificates, by that of custom authorizers, and with WebSocket frames by
custom authorizer and by signature. Every close is entered in `closed` with the reason that the service's life cycle
events give; the client hears a DISCONNECT with MQTT 5, and nothing with 3.1.1. What comes too fast is
discarded without an answer and counted. Acknowledgements come late and out of order, as the service says they may.
"""

import argparse
import asyncio
import dataclasses
import json
import random
import ssl
import time
from collections import deque

import mqtt_wire as wire
from aws_authorizer import Authorizer, split_user_name
from aws_fleet import Fleet
from aws_shadow import Shadows
from aws_sigv4 import Keys
from aws_limits import (
    BYTES_PER_SECOND,
    CONNECTS_PER_SECOND,
    FILTERS_PER_SUBSCRIBE,
    IN_FLIGHT,
    JITTER,
    KEEP_ALIVE,
    PAYLOAD_BYTES,
    PROTOCOL,
    PUBLISHES_PER_SECOND,
    SESSION_SECONDS,
    SUBSCRIPTIONS,
    TOPIC_ALIASES,
    TOPIC_BYTES,
    USER_PROPERTY_BYTES,
    Bucket,
    Policy,
    Refusal,
    check_client_id,
    check_publish,
    check_topic,
    matches,
)
from cloud import Book
from envelope import decode_batch, decode_single, inflate
from lines import serve, wait_until
from ws_frames import NoWebSocket, upgrade

# How long CONNACK takes, in which a client has to wait.
GREETING = 0.02
CONNECT_DEADLINE = 10.0
OUTGOING_MAX = 10_000
EVENTS_MAX = 10_000
# What is signed for whoever starts this as a peer; it needs encoding in a user name.
TOKEN = "gw 1&a=b"
PACKET_BYTES = PAYLOAD_BYTES + TOPIC_BYTES + USER_PROPERTY_BYTES + 128


@dataclasses.dataclass(frozen=True)
class Door:
    """A port: the application protocol that TLS must offer there, and how clients say who they are."""

    protocol: str | None = None
    by_authorizer: bool = False
    frames: bool = False
    signed: bool = False

    @property
    def by_certificate(self):
        return not self.by_authorizer and not self.signed


DOORS = {
    "port_8883": Door(),
    "port_443": Door(PROTOCOL),
    "port_443_authorizer": Door("mqtt", by_authorizer=True),
    "port_443_frames": Door(by_authorizer=True, frames=True),
    "port_443_signed": Door(frames=True, signed=True),
}


class Session:
    """What is kept for a client while it is away."""

    def __init__(self):
        self.filters = {}
        self.waiting = deque(maxlen=OUTGOING_MAX)
        self.sent = {}
        self.next_id = 0
        self.left_at = None


class Service:
    """Everything that connections share."""

    def __init__(self, policy, ack_delay, prefix="", authorizer=None, fleet=None, keys=None, things=()):
        self.policy = policy
        self.shadows = Shadows(things)
        self.authorizer = authorizer
        self.keys = keys
        self.fleet = fleet
        self.ack_delay = ack_delay
        self.prefix = prefix
        self.random = random.Random(8883)
        self.sessions = {}
        self.connections = {}
        self.connect_buckets = {}
        self.connects = []
        self.closed = []
        self.published = []
        self.book = Book()
        self.discarded = 0
        self.delayed = 0.0
        self.most_in_flight = 0
        self.largest = 0
        self.hang_ups = 0
        self.tasks = set()
        # How many keep alives somebody may be silent.
        self.patience = 1.5

    def check_authorizer(self):
        """Returns the authorizer, if there is one."""
        if self.authorizer is None:
            raise Refusal("AUTH_ERROR", "no authorizer", 0x87)
        return self.authorizer

    def close_next(self, times):
        """Closes so many connections right behind their CONNACK, without a word."""
        self.hang_ups = times

    def drop(self):
        """Ends all connections, as the service does from time to time."""
        for connection in list(self.connections.values()):
            connection.abort(Refusal("SERVER_INITIATED_DISCONNECT", "from time to time", 0x8B))

    def send(self, topic, payload):
        """Publishes to whoever has subscribed."""
        for client_id, session in self.sessions.items():
            if any(matches(each, topic) for each in session.filters):
                session.waiting.append((topic, payload.encode()))
                if client_id in self.connections:
                    self.connections[client_id].flush()

    def tell(self, published):
        """Publishes what a shadow has to say."""
        for topic, said in published:
            self.send(topic, json.dumps(said))

    def desire(self, thing, desired, name=None):
        """Desires something of a thing, as an application does."""
        self.tell(self.shadows.desire(thing, name, desired))

    def refuse_reports(self, code, message, times):
        """Refuses so many updates of what is reported."""
        self.shadows.refusal = (code, message, times)

    def take(self, publish):
        """Enters what a rule of the service would get."""
        if len(self.published) < EVENTS_MAX:
            self.published.append(publish.topic)
        self.largest = max(self.largest, len(publish.payload))
        try:
            self._decode(publish)
        except Exception as error:  # any failure is a finding of the test
            self.book.malformed.append({"topic": publish.topic, "error": f"{type(error).__name__}: {error}"})

    def _decode(self, publish):
        if self.prefix and publish.topic.startswith(self.prefix):
            self.book.take(decode_single(json.loads(publish.payload), publish.topic.removeprefix(self.prefix)))
            return
        word = publish.topic.rsplit("/", 1)[-1]
        if word not in ("bson", "bson.z"):
            return
        readings, gaps = decode_batch(inflate(publish.payload) if word == "bson.z" else publish.payload)
        for reading in readings:
            self.book.take(reading)
        for gap in gaps:
            self.book.take_gap(gap)

    async def answer_shadow(self, topic, payload, is_too_much, pause):
        """Answers a request a little later, whether or not who has asked is still there."""
        await asyncio.sleep(pause)
        try:
            self.tell(self.shadows.answer(topic, payload, is_too_much))
        finally:
            self.shadows.end(topic)

    def later(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def provision(self, silent_at=None, denies=None):
        """Says which questions are not answered, and what is answered with no."""
        self.fleet.silent_at, self.fleet.denies = silent_at, denies

    def report(self):
        return {
            "fleet": self.fleet.report() if self.fleet else None,
            "shadows": self.shadows.report(),
            "closed": self.closed,
            "connects": self.connects,
            "discarded": self.discarded,
            "delayed": self.delayed,
            "most_in_flight": self.most_in_flight,
            "largest": self.largest,
            "topics": sorted(set(self.published)),
            "published": len(self.published),
        }

    async def wait(self, count, timeout=25.0):
        """Waits until `count` different readings are there, and returns their number."""
        if not await wait_until(lambda: len(self.book.readings) >= count, timeout):
            raise TimeoutError(f"{len(self.book.readings)} of {count}; {self.report()}")
        return len(self.book.readings)


class Connection:
    """One connection, from its handshake to its end."""

    def __init__(self, service, reader, writer, door):
        self.service = service
        self.reader = reader
        self.writer = writer
        self.door = door
        self.version = 4
        self.client_id = None
        self.session = None
        self.messages = Bucket(PUBLISHES_PER_SECOND, JITTER)
        self.bytes = Bucket(BYTES_PER_SECOND)
        self.unanswered = set()
        self.aliases = {}
        self.tasks = set()
        self.certificate = writer.get_extra_info("peercert")
        self.is_claim = False

    async def run(self):
        try:
            self._check_tls()
            if self.door.frames:
                await self._upgrade()
            await self._greet()
            patience = self.service.patience * self.keep_alive
            while True:
                try:
                    packet = await asyncio.wait_for(wire.read_packet(self.reader), patience)
                except asyncio.TimeoutError:
                    raise Refusal("MQTT_KEEP_ALIVE_TIMEOUT", f"silent for {patience} s", 0x8D) from None
                if packet is None or packet[0] == wire.DISCONNECT:
                    break
                await self._handle(*packet)
        except Refusal as refusal:
            self.abort(refusal)
        except wire.Malformed as error:
            self.abort(Refusal("CLIENT_ERROR", f"malformed: {error}", 0x81))
        except NoWebSocket as error:
            self.abort(Refusal("CLIENT_ERROR", f"no WebSocket: {error}", None))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._leave()

    def _check_tls(self):
        tls = self.writer.get_extra_info("ssl_object")
        spoken = tls.selected_alpn_protocol()
        wanted = self.door.protocol
        if wanted and spoken != wanted:
            raise Refusal("CLIENT_ERROR", f"application protocol {spoken!r} where {wanted} is wanted", None)
        if not wanted and spoken is not None:
            raise Refusal("CLIENT_ERROR", f"application protocol {spoken!r} where none is wanted", None)

    async def _upgrade(self):
        def check(path, headers):
            if self.door.signed:
                return self.service.keys.check(path, headers)
            if path != "/mqtt":
                raise NoWebSocket(path)
            self.service.check_authorizer().check_token(headers)
            return None

        _, _, self.reader, self.writer = await upgrade(self.reader, self.writer, check)

    async def _greet(self):
        packet = await asyncio.wait_for(wire.read_packet(self.reader), CONNECT_DEADLINE)
        if packet is None or packet[0] != wire.CONNECT:
            raise Refusal("CLIENT_ERROR", "the first packet is no CONNECT", None)
        connect = wire.read_connect(packet[2])
        self.version = connect.version
        now = time.monotonic()
        service, client_id = self.service, connect.client_id
        service.connects.append([client_id, now])
        bucket = service.connect_buckets.setdefault(client_id, Bucket(CONNECTS_PER_SECOND))
        if not bucket.take(1):
            self._refuse(0x97, 3)
            raise Refusal("THROTTLED", "more than one CONNECT a second", None)
        try:
            self._check_connect(connect)
        except Refusal as refusal:
            self._refuse(refusal.code, 7 if refusal.reason == "AUTH_ERROR" else 2)
            raise
        if earlier := service.connections.pop(client_id, None):
            earlier.abort(Refusal("DUPLICATE_CLIENTID", client_id, 0x8E))
        self.client_id = client_id
        self.keep_alive = min(max(connect.keep_alive or KEEP_ALIVE[1], KEEP_ALIVE[0]), KEEP_ALIVE[1])
        self.receive_maximum = min(connect.properties.get("receive_maximum", IN_FLIGHT), IN_FLIGHT)
        await self._expect_silence()
        self._accept(connect)

    def _check_connect(self, connect):
        if "authentication_method" in connect.properties:
            raise Refusal("CLIENT_ERROR", "enhanced authentication", 0x8C)
        check_client_id(connect.client_id)
        if self.door.by_authorizer:
            self._check_login(connect)
        if connect.client_id not in self.service.policy.connect:
            raise Refusal("AUTH_ERROR", f"may not connect as {connect.client_id!r}", 0x87)
        if fleet := self.service.fleet:
            fleet.check_certificate(self.certificate)
            self.is_claim = fleet.is_claim(self.certificate)
        if connect.will:
            topic, payload, qos, retain = connect.will
            check_publish(wire.Publish(topic, payload, qos, retain, False, None, {}, [], 0))

    def _check_login(self, connect):
        name, pairs = split_user_name(connect.username)
        authorizer = self.service.check_authorizer()
        if not self.door.frames:
            authorizer.check_token(pairs)
        authorizer.check_login(name, connect.password)

    async def _expect_silence(self):
        """A client has to wait for CONNACK before it sends anything."""
        try:
            early = await asyncio.wait_for(self.reader.read(1), GREETING)
        except asyncio.TimeoutError:
            return
        if early:
            raise Refusal("CLIENT_ERROR", "did not wait for CONNACK", None)
        raise ConnectionResetError

    def _accept(self, connect):
        sessions, now = self.service.sessions, time.monotonic()
        known = sessions.get(self.client_id)
        is_old = known and known.left_at is not None and now - known.left_at > SESSION_SECONDS
        present = known is not None and not connect.clean and not is_old
        keeps = connect.properties.get("session_expiry", 0) > 0 if self.version == 5 else not connect.clean
        self.session = known if present else Session()
        self.session.left_at = None
        self.keeps = keeps
        sessions[self.client_id] = self.session
        self.service.connections[self.client_id] = self
        body = bytes([present, 0])
        if self.version == 5:
            body += wire.properties(
                session_expiry=min(connect.properties.get("session_expiry", 0), 7 * 86_400),
                receive_maximum=IN_FLIGHT,
                maximum_qos=1,
                retain_available=1,
                maximum_packet_size=PACKET_BYTES,
                topic_alias_maximum=TOPIC_ALIASES,
                subscription_ids_available=0,
                server_keep_alive=self.keep_alive,
            )
        self._write(wire.packet(wire.CONNACK, 0, body))
        if self.service.hang_ups > 0:
            self.service.hang_ups -= 1
            raise ConnectionResetError
        self.session.waiting.extendleft(reversed(self.session.sent.values()))
        self.session.sent.clear()
        self.flush()

    async def _handle(self, kind, flags, body):
        match kind:
            case wire.PUBLISH:
                await self._publish(wire.read_publish(flags, body, self.version), len(body))
            case wire.PUBACK:
                self.session.sent.pop(int.from_bytes(body[:2], "big"), None)
                self.flush()
            case wire.SUBSCRIBE:
                self._subscribe(*wire.read_subscribe(body, self.version))
            case wire.UNSUBSCRIBE:
                packet_id, filters = wire.read_unsubscribe(body, self.version)
                for each in filters:
                    self.session.filters.pop(each, None)
                more = b"\0" + bytes(len(filters)) if self.version == 5 else b""
                self._write(wire.packet(wire.UNSUBACK, 0, packet_id.to_bytes(2, "big") + more))
            case wire.PINGREQ:
                self._write(wire.packet(wire.PINGRESP, 0, b""))
            case wire.AUTH:
                raise Refusal("CLIENT_ERROR", "AUTH", 0x8C)
            case _:
                raise Refusal("CLIENT_ERROR", f"a packet of type {kind}", 0x82)

    def _in_full(self, publish):
        """Returns a publication with the topic that its alias stands for on this connection."""
        alias = publish.properties.get("topic_alias")
        if alias is None:
            return publish
        if alias not in range(1, TOPIC_ALIASES + 1):
            raise Refusal("CLIENT_ERROR", f"topic alias {alias}", 0x94)
        if publish.topic:
            self.aliases[alias] = publish.topic
        elif alias not in self.aliases:
            raise Refusal("CLIENT_ERROR", f"topic alias {alias} stands for nothing", 0x82)
        return dataclasses.replace(publish, topic=self.aliases[alias])

    async def _publish(self, publish, size):
        publish = self._in_full(publish)
        if self.is_claim:
            return self._provision(publish)
        is_shadow = self.service.shadows.takes(publish.topic)
        check_publish(publish, is_shadow)
        self.service.policy.check_publish(publish)
        if publish.qos == 1 and len(self.unanswered) >= IN_FLIGHT and publish.packet_id not in self.unanswered:
            raise Refusal("CLIENT_ERROR", f"more than {IN_FLIGHT} without an answer", 0x93)
        if not self.messages.take(1):
            self.service.discarded += 1
            return
        pause = self.bytes.owe(size)
        if publish.qos == 1:
            self.unanswered.add(publish.packet_id)
            self.service.most_in_flight = max(self.service.most_in_flight, len(self.unanswered))
            self._later(self._answer(publish.packet_id))
        if is_shadow:
            self._ask_shadow(publish)
        else:
            self.service.take(publish)
        if pause:
            self.service.delayed += pause
            await asyncio.sleep(pause)

    def _provision(self, publish):
        fleet = self.service.fleet
        fleet.check_claim([publish.topic])
        fleet.check_asks(publish.topic, self.session.filters)
        if publish.qos == 1:
            self._write(wire.packet(wire.PUBACK, 0, publish.packet_id.to_bytes(2, "big")))
        if answer := fleet.answer(publish.topic, publish.payload):
            self.session.waiting.append((answer[0], json.dumps(answer[1]).encode()))
            self.flush()

    def _ask_shadow(self, publish):
        if publish.retain:
            raise Refusal("CLIENT_ERROR", "retained on a reserved topic", 0x9A)
        is_too_much = self.service.shadows.begin(publish.topic)
        pause = self.service.random.uniform(0, self.service.ack_delay)
        self.service.later(self.service.answer_shadow(publish.topic, publish.payload, is_too_much, pause))

    async def _answer(self, packet_id):
        await asyncio.sleep(self.service.random.uniform(0, self.service.ack_delay))
        self.unanswered.discard(packet_id)
        self._write(wire.packet(wire.PUBACK, 0, packet_id.to_bytes(2, "big")))

    def _subscribe(self, packet_id, filters, properties):
        if "subscription_id" in properties:
            raise Refusal("CLIENT_ERROR", "a subscription identifier", 0xA1)
        if len(filters) > FILTERS_PER_SUBSCRIBE:
            raise Refusal("CLIENT_ERROR", f"{len(filters)} filters in a SUBSCRIBE", 0x97)
        for each, qos in filters:
            check_topic(each, "filter")
            if self.is_claim:
                self.service.fleet.check_claim([each])
            else:
                self.service.policy.check_subscribe(each)
            if qos > 1:
                # No SUBACK is sent for it.
                self._note("CLIENT_ERROR", "a subscription with quality of service 2")
                return
        codes = bytearray()
        for each, qos in filters:
            if len(self.session.filters) >= SUBSCRIPTIONS and each not in self.session.filters:
                self._note("CLIENT_ERROR", f"more than {SUBSCRIPTIONS} subscriptions")
                codes.append(0x97 if self.version == 5 else 0x80)
            else:
                self.session.filters[each] = qos
                codes.append(qos)
        head = packet_id.to_bytes(2, "big") + (b"\0" if self.version == 5 else b"")
        self._write(wire.packet(wire.SUBACK, 0, head + bytes(codes)))

    def flush(self):
        """Sends what waits, as far as the client takes it."""
        session = self.session
        while session.waiting and len(session.sent) < self.receive_maximum and self.messages.take(1):
            session.next_id = session.next_id % 65_535 + 1
            topic, payload = session.sent[session.next_id] = session.waiting.popleft()
            self._write(wire.publish(topic, payload, session.next_id, version=self.version))

    def abort(self, refusal):
        """Ends the connection: with a DISCONNECT in MQTT 5, if the reason has a code for it."""
        self._note(refusal.reason, refusal.detail)
        if self.version == 5 and self.session is not None and refusal.code is not None:
            self._write(wire.packet(wire.DISCONNECT, 0, bytes([refusal.code, 0])))
        self.writer.close()

    def _refuse(self, code, code_3):
        body = bytes([0, code]) + wire.properties() if self.version == 5 else bytes([0, code_3])
        self._write(wire.packet(wire.CONNACK, 0, body))

    def _note(self, reason, detail):
        if len(self.service.closed) < EVENTS_MAX:
            self.service.closed.append([reason, detail])

    def _later(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _write(self, data):
        if not self.writer.is_closing():
            self.writer.write(data)

    def _leave(self):
        for task in self.tasks:
            task.cancel()
        self.writer.close()
        service = self.service
        if service.connections.get(self.client_id) is self:
            del service.connections[self.client_id]
            if self.keeps:
                self.session.left_at = time.monotonic()
            else:
                service.sessions.pop(self.client_id, None)


def make_context(ca, cert, key, host, by_certificate=True, fleet=None):
    """Returns TLS as the service has it: 1.2 at least, a certificate if that is asked for, and the host's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED if by_certificate else ssl.CERT_NONE
    context.load_verify_locations(ca)
    if fleet:
        context.load_verify_locations(cadata=fleet.authority_pem())
    context.load_cert_chain(cert, key)
    # To see what is offered, on both ports.
    context.set_alpn_protocols([PROTOCOL, "mqtt", "http/1.1"])

    def check_name(_tls, name, _context):
        return None if name == host else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = check_name
    return context


async def start(service, context, door, port=0):
    """Listens; returns the server."""

    async def serve_one(reader, writer):
        await Connection(service, reader, writer, door).run()

    return await asyncio.start_server(serve_one, "127.0.0.1", port, ssl=context, limit=1 << 16)


def port_of(server):
    return server.sockets[0].getsockname()[1]


async def main():
    parser = argparse.ArgumentParser()
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--host", default="localhost")
    for name in ("connect", "publish", "subscribe"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--ack-delay", type=float, default=0.1)
    parser.add_argument("--single-prefix", default="", help="topics under it carry one reading each, as JSON")
    parser.add_argument("--thing", action="append", default=[], help="a thing that has shadows")
    parser.add_argument("--template", help="the name of a provisioning template")
    parser.add_argument("--claim", action="append", default=[], help="the common name of a claim")
    parser.add_argument("--signed", help="access key, secret key, region and session token, with commas in between")
    parser.add_argument("--authorizer", help="the name of a custom authorizer with signing")
    options = parser.parse_args()
    policy = Policy(set(options.connect), options.publish, set(options.subscribe))
    authorizer = Authorizer(options.authorizer) if options.authorizer else None
    fleet = Fleet(options.template, set(options.claim)) if options.template else None
    keys = Keys(*options.signed.split(",")) if options.signed else None
    service = Service(policy, options.ack_delay, options.single_prefix, authorizer, fleet, keys, options.thing)
    ports = {}
    for name, door in DOORS.items():
        files = (options.ca, options.cert, options.key, options.host)
        ports[name] = port_of(await start(service, make_context(*files, door.by_certificate, fleet), door))
    signed = {"token": TOKEN, "signature": authorizer.sign(TOKEN)} if authorizer else {}
    requests = {
        "report": service.report,
        "book": service.book.report,
        "wait": service.wait,
        "send": service.send,
        "drop": service.drop,
        "close_next": service.close_next,
        "provision": service.provision,
        "desire": service.desire,
        "refuse_reports": service.refuse_reports,
    }
    await serve(requests, **ports, **signed)


if __name__ == "__main__":
    asyncio.run(main())
