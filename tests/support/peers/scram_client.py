"""MQTT 5 clients that log in by enhanced authentication with SCRAM-SHA-256: the exchange is scramp's, the packets are
made here byte by byte, so that they can be wrong on purpose.

Every request names its `client`. An answer to a login has the `reason` of the packet that ended it and what it was.
"""

import asyncio
import struct

from scramp import ScramClient

from lines import serve

METHOD = "SCRAM-SHA-256"
TIMEOUT = 20.0
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT, AUTH = 1, 2, 3, 4, 8, 9, 14, 15
NAMES = {CONNACK: "CONNACK", DISCONNECT: "DISCONNECT", AUTH: "AUTH", None: "end of stream"}
CONTINUE, AGAIN = 0x18, 0x19
PROPERTY_METHOD, PROPERTY_DATA = 0x15, 0x16
PROPERTY_BYTES = {0x11: 4, 0x21: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x22: 2, 0x28: 1, 0x29: 1, 0x2A: 1, 0x13: 2}


def field(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">H", len(data)) + data


def varint(number):
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def frame(first, body):
    return bytes([first]) + varint(len(body)) + body


def properties(method, data):
    out = b""
    if method is not None:
        out += bytes([PROPERTY_METHOD]) + field(method)
    if data is not None:
        out += bytes([PROPERTY_DATA]) + field(data)
    return varint(len(out)) + out


def read_properties(body):
    """Returns method and data of a list of properties, at most 127 bytes of length two."""
    length, at, shift = 0, 0, 0
    while True:
        length |= (body[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if body[at - 1] < 0x80:
            break
    found, end = {}, at + length
    while at < end:
        kind = body[at]
        at += 1
        if kind in PROPERTY_BYTES:
            at += PROPERTY_BYTES[kind]
            continue
        for _ in range(2 if kind == 0x26 else 1):
            size = struct.unpack_from(">H", body, at)[0]
            found[kind] = body[at + 2 : at + 2 + size]
            at += 2 + size
    method, data = found.get(PROPERTY_METHOD), found.get(PROPERTY_DATA)
    return method and method.decode(), data and data.decode()


class Client:
    """One connection; what it hears is sorted into answers of the login and the flow of messages."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.heard = asyncio.Queue(1_000)
        self.acked = set()
        self.received = []
        self.flow = None
        self.final = None
        self.task = asyncio.create_task(self.listen())

    async def packet(self):
        first = (await self.reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, await self.reader.readexactly(length)

    async def listen(self):
        try:
            while True:
                first, body = await self.packet()
                if first >> 4 == PUBACK:
                    self.acked.add(struct.unpack_from(">H", body)[0])
                elif first >> 4 == PUBLISH:
                    size = struct.unpack_from(">H", body)[0]
                    self.received.append(int(body[2 + size + 1 :]))
                else:
                    await self.heard.put((first >> 4, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.heard.put((None, b""))

    async def answer(self):
        """Returns the next packet that is no message: kind, reason, method, data."""
        kind, body = await asyncio.wait_for(self.heard.get(), TIMEOUT)
        if kind == CONNACK:
            return kind, body[1], *read_properties(body[2:])
        if kind in (AUTH, DISCONNECT) and len(body) > 1:
            return kind, body[0], *read_properties(body[1:])
        return kind, body[0] if body else 0, None, None

    def auth(self, reason, data, method=METHOD):
        self.writer.write(frame(AUTH << 4, bytes([reason]) + properties(method, data)))

    async def send_flow(self, topic):
        number = 0
        while True:
            number += 1
            body = field(topic) + struct.pack(">H", number) + b"\0" + str(number).encode()
            self.writer.write(frame(PUBLISH << 4 | 2, body))
            while len(self.acked) < number - 20:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)


class Clients:
    def __init__(self):
        self.clients = {}

    async def connect(self, client, port, user, password, method=METHOD, first=None, **how):
        """Connects; `first` replaces the first message of the exchange, `how` is for `exchange`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.clients[client] = it = Client(reader, writer)
        scram = ScramClient([METHOD], user, password)
        data = scram.get_client_first() if first is None else first
        user_name = how.pop("user_name", None)
        flags = 0x02 | (0x80 if user_name is not None else 0)
        body = field("MQTT") + bytes([5, flags]) + struct.pack(">H", 60)
        body += properties(method, data) + field(client)
        body += field(user_name) if user_name is not None else b""
        writer.write(frame(CONNECT << 4, body))
        return await self.exchange(it, scram, **how)

    async def again(self, client, user, password, method=METHOD, **how):
        """Logs in once more on a live connection."""
        it = self.clients[client]
        scram = ScramClient([METHOD], user, password)
        it.auth(AGAIN, scram.get_client_first(), method)
        return await self.exchange(it, scram, **how)

    async def exchange(self, it, scram, second_method=METHOD, replay=None, change=None):
        """Goes on with what the server asks.

        `second_method` is what the second message's packet names, `replay` the client whose second message is sent
        again, `change` a text in it and what it is replaced by.
        """
        kind, reason, method, data = await it.answer()
        challenge = data
        if kind == AUTH and reason == CONTINUE:
            scram.set_server_first(data)
            it.final = scram.get_client_final()
            final = it.final.replace(*change) if change else it.final
            it.auth(CONTINUE, self.clients[replay].final if replay else final, second_method)
            kind, reason, method, data = await it.answer()
        proven = False
        if reason == 0 and data:
            scram.set_server_final(data)  # raises if the server does not know the password either
            proven = True
        packet = NAMES.get(kind, kind)
        return {
            "packet": packet, "reason": reason, "method": method, "data": data, "challenge": challenge, "proven": proven
        }

    async def flow(self, client, topic):
        """Subscribes to a topic, and publishes numbers to it from now on."""
        it = self.clients[client]
        it.writer.write(frame(SUBSCRIBE << 4 | 2, struct.pack(">H", 60_000) + b"\0" + field(topic) + b"\0"))
        kind, _, _, _ = await it.answer()
        assert kind == SUBACK, kind
        it.flow = asyncio.create_task(it.send_flow(topic))

    async def flowed(self, client, beyond):
        """Waits until more than `beyond` messages came back; returns how many, and whether all did so in order."""
        it = self.clients[client]
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        while len(it.received) <= beyond and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        count = len(it.received)
        return {"count": count, "in_order": it.received[:count] == list(range(1, count + 1))}

    async def ended(self, client):
        """Waits for the end of a connection and returns what was said before it."""
        it = self.clients[client]
        kind, reason, _, _ = await it.answer()
        if it.flow:
            it.flow.cancel()
        if kind is not None:
            end, _, _, _ = await it.answer()
            assert end is None, end
        return {"packet": NAMES.get(kind, kind), "reason": reason}

    async def send_auth(self, client, reason, data="", method=METHOD):
        """Sends one AUTH and nothing else."""
        self.clients[client].auth(reason, data, method)


async def main():
    clients = Clients()
    handlers = ("connect", "again", "flow", "flowed", "ended", "send_auth")
    await serve({name: getattr(clients, name) for name in handlers})


if __name__ == "__main__":
    asyncio.run(main())
