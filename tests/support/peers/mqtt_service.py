"""The frame of a strict stand-in for a service that speaks MQTT 3.1.1: what the service would close a connection for, this
closes it for, and enters it in `closed` with the reason.

What a service takes is said by a subclass of `Service`; its own tests show for each check that it catches a client that
breaks it.
"""

import asyncio
import time
from collections import deque

import mqtt_wire as wire
from aws_limits import matches

# How long CONNACK takes, in which a client has to wait.
GREETING = 0.02
CONNECT_DEADLINE = 10.0
OUTGOING_MAX = 10_000
EVENTS_MAX = 10_000
PROTOCOL_REFUSED, IDENTIFIER_REFUSED, UNAVAILABLE, BAD_LOGIN, NOT_AUTHORIZED = range(1, 6)


class Refusal(Exception):
    """The connection is closed: why, and with which return code if that is the answer to CONNECT."""

    def __init__(self, reason, detail, code=NOT_AUTHORIZED):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.code = code


class Session:
    """What is kept for a client while it is away."""

    def __init__(self):
        self.filters = {}
        self.waiting = deque(maxlen=OUTGOING_MAX)
        self.sent = {}
        self.next_id = 0


class Service:
    """Everything that connections share."""

    def __init__(self):
        self.sessions = {}
        self.connections = {}
        self.connects = []
        self.goodbyes = []
        self.closed = []
        self.published = []
        self.hang_ups = 0
        # How many keep alives somebody may be silent.
        self.patience = 1.5

    def check_connect(self, connection, connect):
        """Raises `Refusal` if somebody may not connect; may set `connection.expires`, in the time of `time.time()`."""

    async def publish(self, connection, publish, size):
        """Takes a publication; it is acknowledged unless this raises `Refusal`, or returns `False`."""

    def subscribe(self, connection, topic_filter, qos):
        """Returns the quality of service that is granted, 0x80 to refuse."""
        return min(qos, 1)

    def left(self, connection):
        """Takes notice that a connection has ended."""

    def close_next(self, times):
        """Closes so many connections right behind their CONNACK, without a word."""
        self.hang_ups = times

    def drop(self):
        """Ends all connections."""
        for connection in list(self.connections.values()):
            connection.abort(Refusal("DROPPED", "on request"))

    def deliver(self, topic, payload):
        """Publishes with QoS 1 to whoever has subscribed; returns to how many."""
        reached = 0
        for client_id, session in self.sessions.items():
            if any(matches(each, topic) for each in session.filters):
                reached += 1
                session.waiting.append((topic, payload))
                if client_id in self.connections:
                    self.connections[client_id].flush()
        return reached

    def note_published(self, topic):
        if len(self.published) < EVENTS_MAX:
            self.published.append(topic)

    def note_closed(self, reason, detail):
        if len(self.closed) < EVENTS_MAX:
            self.closed.append([reason, detail])


class Connection:
    """One connection, from its handshake to its end."""

    def __init__(self, service, reader, writer):
        self.service = service
        self.reader = reader
        self.writer = writer
        self.client_id = None
        self.session = None
        self.keeps = False
        self.expires = None
        self.certificate = (writer.get_extra_info("ssl_object") or _Plain).getpeercert()

    async def run(self):
        try:
            await self._greet()
            while True:
                packet = await self._next_packet()
                if packet is None:
                    break
                if packet[0] == wire.DISCONNECT:
                    self.service.goodbyes.append([self.client_id, time.monotonic()])
                    break
                await self._handle(*packet)
        except Refusal as refusal:
            self.abort(refusal)
        except wire.Malformed as error:
            self.abort(Refusal("MALFORMED", str(error)))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._leave()

    async def _next_packet(self):
        patience = self.service.patience * self.keep_alive if self.keep_alive else None
        remaining = None if self.expires is None else self.expires - time.time()
        limit = min((each for each in (patience, remaining) if each is not None), default=None)
        try:
            return await asyncio.wait_for(wire.read_packet(self.reader), limit)
        except asyncio.TimeoutError:
            if limit == remaining:
                raise Refusal("LOGIN_EXPIRED", "what it logged in with is no longer valid") from None
            raise Refusal("KEEP_ALIVE", f"silent for {patience} s") from None

    async def _greet(self):
        packet = await asyncio.wait_for(wire.read_packet(self.reader), CONNECT_DEADLINE)
        if packet is None or packet[0] != wire.CONNECT:
            raise Refusal("NO_CONNECT", "the first packet is no CONNECT")
        connect = wire.read_connect(packet[2])
        self.service.connects.append([connect.client_id, time.monotonic()])
        self.keep_alive = connect.keep_alive
        try:
            if connect.version != 4:
                raise Refusal("PROTOCOL", f"version {connect.version}", PROTOCOL_REFUSED)
            self.service.check_connect(self, connect)
        except Refusal as refusal:
            self.write(wire.packet(wire.CONNACK, 0, bytes([0, refusal.code])))
            raise
        if earlier := self.service.connections.pop(connect.client_id, None):
            earlier.abort(Refusal("TAKEN_OVER", connect.client_id))
        self.client_id = connect.client_id
        await self._expect_silence()
        self._accept(connect)

    async def _expect_silence(self):
        """A client has to wait for CONNACK before it sends anything."""
        try:
            early = await asyncio.wait_for(self.reader.read(1), GREETING)
        except asyncio.TimeoutError:
            return
        if early:
            raise Refusal("EARLY", "did not wait for CONNACK")
        raise ConnectionResetError

    def _accept(self, connect):
        sessions = self.service.sessions
        present = self.client_id in sessions and not connect.clean
        self.session = sessions[self.client_id] if present else Session()
        self.keeps = not connect.clean
        sessions[self.client_id] = self.session
        self.service.connections[self.client_id] = self
        self.write(wire.packet(wire.CONNACK, 0, bytes([present, 0])))
        if self.service.hang_ups > 0:
            self.service.hang_ups -= 1
            raise ConnectionResetError
        self.session.waiting.extendleft(reversed(self.session.sent.values()))
        self.session.sent.clear()
        self.flush()

    async def _handle(self, kind, flags, body):
        match kind:
            case wire.PUBLISH:
                publish = wire.read_publish(flags, body, 4)
                if publish.qos == 2:
                    raise Refusal("QOS", "quality of service 2")
                taken = await self.service.publish(self, publish, len(body))
                if publish.qos == 1 and taken is not False:
                    self.write(wire.packet(wire.PUBACK, 0, publish.packet_id.to_bytes(2, "big")))
            case wire.PUBACK:
                self.session.sent.pop(int.from_bytes(body[:2], "big"), None)
                self.flush()
            case wire.SUBSCRIBE:
                packet_id, filters, _ = wire.read_subscribe(body, 4)
                granted = bytearray()
                for each, qos in filters:
                    granted.append(self.service.subscribe(self, each, qos))
                    if granted[-1] < 0x80:
                        self.session.filters[each] = granted[-1]
                self.write(wire.packet(wire.SUBACK, 0, packet_id.to_bytes(2, "big") + bytes(granted)))
            case wire.UNSUBSCRIBE:
                packet_id, filters = wire.read_unsubscribe(body, 4)
                for each in filters:
                    self.session.filters.pop(each, None)
                self.write(wire.packet(wire.UNSUBACK, 0, packet_id.to_bytes(2, "big")))
            case wire.PINGREQ:
                self.write(wire.packet(wire.PINGRESP, 0, b""))
            case _:
                raise Refusal("MALFORMED", f"a packet of type {kind}")

    def flush(self):
        """Sends what waits."""
        session = self.session
        while session.waiting and len(session.sent) < 100:
            session.next_id = session.next_id % 65_535 + 1
            topic, payload = session.sent[session.next_id] = session.waiting.popleft()
            self.write(wire.publish(topic, payload, session.next_id, version=4))

    def abort(self, refusal):
        self.service.note_closed(refusal.reason, refusal.detail)
        self.writer.close()

    def write(self, data):
        if not self.writer.is_closing():
            self.writer.write(data)

    def _leave(self):
        self.writer.close()
        service = self.service
        if service.connections.get(self.client_id) is self:
            del service.connections[self.client_id]
            if not self.keeps:
                service.sessions.pop(self.client_id, None)
        if self.session is not None:
            service.left(self)


class _Plain:
    @staticmethod
    def getpeercert():
        return None


async def start(service, context=None, accept=None, port=0, connection=Connection):
    """Listens; `accept` makes reader and writer of MQTT of those of the socket, such as those of frames."""

    async def serve_one(reader, writer):
        if accept is not None:
            try:
                reader, writer = await accept(service, reader, writer)
            except Refusal as refusal:
                service.note_closed(refusal.reason, refusal.detail)
                writer.close()
                return
        await connection(service, reader, writer).run()

    return await asyncio.start_server(serve_one, "127.0.0.1", port, ssl=context, limit=1 << 16)


def port_of(server):
    return server.sockets[0].getsockname()[1]
