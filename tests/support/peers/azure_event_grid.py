"""A stand-in for the MQTT broker of Azure Event Grid, MQTT 5 with certificates: what the service says that it does not
take, this closes the connection for, and enters it in `closed` with the reason.

`test_azure_event_grid.py` shows for each check that it catches a client that breaks it. It knows no MQTT 3.1.1, no tokens
of Entra and no routing. What the service does with whoever sends too fast is not said on its pages; this ends the
connection. Acknowledgements come late and out of order, as order is not promised.
"""

import argparse
import asyncio
import dataclasses
import random
import ssl
import time

import mqtt_wire as wire
from aws_limits import JITTER, Bucket, matches
from azure_iot_hub import accept_frames
from cloud import Book
from envelope import decode_batch, inflate
from lines import serve, wait_until
from mqtt_service import CONNECT_DEADLINE, Connection, Refusal, Service, Session, port_of, start

PACKET_BYTES = 512 * 1024
CLIENT_ID_BYTES = 128
KEEP_ALIVE_MAX = 1160
SESSION_SECONDS = 8 * 3600
WILL_DELAY_MAX = 300
TOPIC_ALIASES = 10
IN_FLIGHT = 100
PUBLISHES_PER_SECOND = 1000
BYTES_PER_SECOND = 1_000_000
WAITING_MESSAGES = 100
WAITING_BYTES = 1_000_000
# The reason codes of MQTT 5 that are used here.
MALFORMED, PROTOCOL, SPECIFIC, VERSION, IDENTIFIER, NOT_AUTHORIZED = 0x81, 0x82, 0x83, 0x84, 0x85, 0x87
METHOD, TAKEN_OVER, TOPIC, RECEIVE, ALIAS, TOO_LARGE = 0x8C, 0x8E, 0x90, 0x93, 0x94, 0x95
QUOTA, QOS, NO_SUBSCRIPTION_IDS = 0x97, 0x9B, 0xA1
# Those of what every stand-in closes a connection for.
COMMON = {"KEEP_ALIVE": 0x8D, "DROPPED": 0x8B, "MALFORMED": MALFORMED, "EARLY": None}


@dataclasses.dataclass(frozen=True)
class Spaces:
    """What the clients of a namespace may publish and subscribe to: templates of topic spaces with their bindings."""

    publisher: tuple = ()
    subscriber: tuple = ()


class Namespace(Service):
    """The clients of a namespace, by the authentication name that their certificates show, and what they have sent."""

    # Of the request for WebSocket frames.
    path = "/mqtt"

    def __init__(self, names, spaces, ack_delay=0.0):
        super().__init__()
        self.names = names
        self.spaces = spaces
        self.ack_delay = ack_delay
        self.random = random.Random(8883)
        self.rates = PUBLISHES_PER_SECOND, BYTES_PER_SECOND
        self.book = Book()
        self.refused = []
        self.results = []
        self.most_in_flight = 0
        self.largest = 0

    def check_connect(self, connection, connect):
        if connect.version != 5:
            raise Refusal("PROTOCOL", f"version {connect.version} is not known here", VERSION)
        if "authentication_method" in connect.properties:
            raise Refusal("LOGIN", "enhanced authentication is not known here", METHOD)
        if not 1 <= len(connect.client_id.encode()) <= CLIENT_ID_BYTES:
            raise Refusal("CLIENT_ID", repr(connect.client_id[:20]), IDENTIFIER)
        if not 1 <= connect.keep_alive <= KEEP_ALIVE_MAX:
            raise Refusal("KEEP_ALIVE", f"{connect.keep_alive} s", SPECIFIC)
        if connect.user:
            raise Refusal("PROPERTIES", "user properties are for PUBLISH alone", SPECIFIC)
        if connect.will_properties.get("will_delay", 0) > WILL_DELAY_MAX:
            raise Refusal("WILL", "a delay of more than 300 s", SPECIFIC)
        shown = dict(pair for part in (connection.certificate or {}).get("subject", ()) for pair in part)
        name = shown.get("commonName")
        if name not in self.names:
            raise Refusal("LOGIN", f"nobody is called {name!r}", NOT_AUTHORIZED)
        if connect.username not in (None, name) or connect.password is not None:
            raise Refusal("LOGIN", f"{connect.username!r} shows the certificate of {name!r}", NOT_AUTHORIZED)

    def may_publish(self, topic):
        return any(matches(each, topic) for each in self.spaces.publisher)

    def subscribe(self, connection, topic_filter, qos):
        return min(qos, 1) if topic_filter in self.spaces.subscriber else NOT_AUTHORIZED

    def take(self, publish, size):
        """Enters what a subscriber would get."""
        self.largest = max(self.largest, size)
        self.note_published(publish.topic)
        word = publish.topic.rsplit("/", 1)[-1]
        if word not in ("bson", "bson.z"):
            self.results.append([publish.topic, publish.payload.decode()])
            return
        try:
            readings, gaps = decode_batch(inflate(publish.payload) if word == "bson.z" else publish.payload)
            for reading in readings:
                self.book.take(reading)
            for gap in gaps:
                self.book.take_gap(gap)
        except Exception as error:  # any failure is a finding of the test
            self.book.malformed.append({"topic": publish.topic, "error": f"{type(error).__name__}: {error}"})

    def send(self, topic, payload):
        """Publishes to whoever has subscribed; a session for which too much waits is ended."""
        reached = self.deliver(topic, payload.encode())
        for client_id, session in list(self.sessions.items()):
            waits = sum(len(body) for _, body in session.waiting)
            if len(session.waiting) > WAITING_MESSAGES or waits > WAITING_BYTES:
                del self.sessions[client_id]
                if connection := self.connections.get(client_id):
                    connection.abort(Refusal("SESSION", "too much waits for it", QUOTA))
        return reached

    def report(self):
        return {
            "closed": self.closed,
            "connects": self.connects,
            "goodbyes": self.goodbyes,
            "largest": self.largest,
            "most_in_flight": self.most_in_flight,
            "published": len(self.published),
            "refused": self.refused,
            "results": self.results,
        }

    async def wait(self, count, timeout=25.0):
        """Waits until `count` different readings are there, and returns their number."""
        if not await wait_until(lambda: len(self.book.readings) >= count, timeout):
            raise TimeoutError(f"{len(self.book.readings)} of {count}; {self.report()}")
        return len(self.book.readings)


class Line(Connection):
    """One connection by MQTT 5."""

    def __init__(self, service, reader, writer):
        super().__init__(service, reader, writer)
        self.messages = Bucket(service.rates[0], JITTER)
        self.bytes = Bucket(service.rates[1], PACKET_BYTES)
        self.unanswered = set()
        self.aliases = {}
        self.tasks = set()

    async def _greet(self):
        packet = await asyncio.wait_for(wire.read_packet(self.reader), CONNECT_DEADLINE)
        if packet is None or packet[0] != wire.CONNECT:
            raise Refusal("NO_CONNECT", "the first packet is no CONNECT", None)
        connect = wire.read_connect(packet[2])
        self.service.connects.append([connect.client_id, time.monotonic()])
        self.keep_alive = connect.keep_alive
        try:
            self.service.check_connect(self, connect)
        except Refusal as refusal:
            self.write(wire.packet(wire.CONNACK, 0, bytes([0, refusal.code]) + wire.properties()))
            raise
        if earlier := self.service.connections.pop(connect.client_id, None):
            earlier.abort(Refusal("TAKEN_OVER", connect.client_id, TAKEN_OVER))
        self.client_id = connect.client_id
        self.receive_maximum = min(connect.properties.get("receive_maximum", IN_FLIGHT), IN_FLIGHT)
        await self._expect_silence()
        self._accept(connect)

    def _accept(self, connect):
        sessions = self.service.sessions
        present = self.client_id in sessions and not connect.clean
        self.session = sessions[self.client_id] if present else Session()
        expiry = min(connect.properties.get("session_expiry", 0), SESSION_SECONDS)
        self.keeps = expiry > 0
        sessions[self.client_id] = self.session
        self.service.connections[self.client_id] = self
        said = wire.properties(
            session_expiry=expiry,
            receive_maximum=IN_FLIGHT,
            maximum_qos=1,
            maximum_packet_size=PACKET_BYTES,
            topic_alias_maximum=TOPIC_ALIASES,
            subscription_ids_available=0,
        )
        self.write(wire.packet(wire.CONNACK, 0, bytes([present, 0]) + said))
        self.session.waiting.extendleft(reversed(self.session.sent.values()))
        self.session.sent.clear()
        self.flush()

    async def _handle(self, kind, flags, body):
        match kind:
            case wire.PUBLISH:
                self._publish(wire.read_publish(flags, body, 5), len(body))
            case wire.PUBACK:
                self.session.sent.pop(int.from_bytes(body[:2], "big"), None)
                self.flush()
            case wire.SUBSCRIBE:
                packet_id, filters, properties = wire.read_subscribe(body, 5)
                if "subscription_id" in properties:
                    raise Refusal("SUBSCRIBE", "a subscription identifier", NO_SUBSCRIPTION_IDS)
                granted = bytes(self.service.subscribe(self, *each) for each in filters)
                for (each, _), code in zip(filters, granted):
                    if code < 0x80:
                        self.session.filters[each] = code
                self.write(wire.packet(wire.SUBACK, 0, packet_id.to_bytes(2, "big") + b"\0" + granted))
            case wire.UNSUBSCRIBE:
                packet_id, filters = wire.read_unsubscribe(body, 5)
                for each in filters:
                    self.session.filters.pop(each, None)
                answer = packet_id.to_bytes(2, "big") + b"\0" + bytes(len(filters))
                self.write(wire.packet(wire.UNSUBACK, 0, answer))
            case wire.PINGREQ:
                self.write(wire.packet(wire.PINGRESP, 0, b""))
            case wire.AUTH:
                raise Refusal("LOGIN", "enhanced authentication is not known here", METHOD)
            case _:
                raise Refusal("PROTOCOL", f"a packet of type {kind}", PROTOCOL)

    def _in_full(self, publish):
        """Returns a publication with the topic that its alias stands for on this connection."""
        alias = publish.properties.get("topic_alias")
        if alias is None:
            return publish
        if alias not in range(1, TOPIC_ALIASES + 1):
            raise Refusal("ALIAS", f"{alias}", ALIAS)
        if publish.topic:
            self.aliases[alias] = publish.topic
        elif alias not in self.aliases:
            raise Refusal("ALIAS", f"{alias} stands for nothing", PROTOCOL)
        return dataclasses.replace(publish, topic=self.aliases[alias])

    def _publish(self, publish, size):
        publish = self._in_full(publish)
        if publish.qos > 1:
            raise Refusal("QOS", "quality of service 2", QOS)
        if size > PACKET_BYTES:
            raise Refusal("TOO_LARGE", f"{size} bytes", TOO_LARGE)
        if not publish.topic or publish.topic.startswith("$") or set("+#") & set(publish.topic):
            raise Refusal("TOPIC", publish.topic[:80], TOPIC)
        if not self.messages.take(1) or not self.bytes.take(size):
            raise Refusal("THROTTLED", "more than a second takes", QUOTA)
        code = 0
        if self.service.may_publish(publish.topic):
            self.service.take(publish, size)
        else:
            self.service.refused.append(publish.topic)
            code = NOT_AUTHORIZED
        if publish.qos == 1:
            if len(self.unanswered) >= IN_FLIGHT and publish.packet_id not in self.unanswered:
                raise Refusal("RECEIVE_MAXIMUM", f"more than {IN_FLIGHT} without an answer", RECEIVE)
            self.unanswered.add(publish.packet_id)
            self.service.most_in_flight = max(self.service.most_in_flight, len(self.unanswered))
            task = asyncio.create_task(self._answer(publish.packet_id, code))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _answer(self, packet_id, code):
        await asyncio.sleep(self.service.random.uniform(0, self.service.ack_delay))
        self.unanswered.discard(packet_id)
        more = bytes([code, 0]) if code else b""
        self.write(wire.packet(wire.PUBACK, 0, packet_id.to_bytes(2, "big") + more))

    def flush(self):
        """Sends what waits, as far as the client takes it."""
        session = self.session
        while session.waiting and len(session.sent) < self.receive_maximum:
            session.next_id = session.next_id % 65_535 + 1
            topic, payload = session.sent[session.next_id] = session.waiting.popleft()
            self.write(wire.publish(topic, payload, session.next_id, version=5))

    def abort(self, refusal):
        """Ends the connection: with a DISCONNECT, if the reason has a code for it."""
        code = COMMON.get(refusal.reason, refusal.code)
        if self.session is not None and code is not None:
            self.write(wire.packet(wire.DISCONNECT, 0, bytes([code, 0])))
        super().abort(refusal)

    def _leave(self):
        for task in self.tasks:
            task.cancel()
        super()._leave()


def make_context(ca, cert, key):
    """Returns TLS as the service has it: 1.2 at least, and a certificate of a registered authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(cert, key)
    return context


async def main():
    parser = argparse.ArgumentParser()
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("client", "publisher", "subscriber"):
        parser.add_argument(f"--{name}", action="append", default=[])
    options = parser.parse_args()
    spaces = Spaces(tuple(options.publisher), tuple(options.subscriber))
    namespace = Namespace(set(options.client), spaces, ack_delay=0.05)
    context = make_context(options.ca, options.cert, options.key)
    plain = await start(namespace, context, connection=Line)
    frames = await start(namespace, context, accept_frames, connection=Line)
    requests = {
        "report": namespace.report,
        "book": namespace.book.report,
        "wait": namespace.wait,
        "send": namespace.send,
        "drop": namespace.drop,
    }
    await serve(requests, port_8883=port_of(plain), port_443=port_of(frames))


if __name__ == "__main__":
    asyncio.run(main())
