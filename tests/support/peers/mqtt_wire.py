"""MQTT packets, 3.1.1 and 5, as far as a server reads them and a client that is wrong on purpose writes them."""

import struct
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(9, 16)

PACKET_BYTES_MAX = 4 * 1024 * 1024

# Properties by identifier (MQTT 5.0, section 2.2.2.2): their name and kind.
PROPERTIES = {
    0x01: ("payload_format", "byte"),
    0x02: ("message_expiry", "four"),
    0x03: ("content_type", "text"),
    0x08: ("response_topic", "text"),
    0x09: ("correlation_data", "text"),
    0x0B: ("subscription_id", "varint"),
    0x11: ("session_expiry", "four"),
    0x12: ("assigned_client_id", "text"),
    0x13: ("server_keep_alive", "two"),
    0x15: ("authentication_method", "text"),
    0x16: ("authentication_data", "text"),
    0x17: ("request_problem_information", "byte"),
    0x18: ("will_delay", "four"),
    0x19: ("request_response_information", "byte"),
    0x1F: ("reason_string", "text"),
    0x21: ("receive_maximum", "two"),
    0x22: ("topic_alias_maximum", "two"),
    0x23: ("topic_alias", "two"),
    0x24: ("maximum_qos", "byte"),
    0x25: ("retain_available", "byte"),
    0x26: ("user", "pair"),
    0x27: ("maximum_packet_size", "four"),
    0x28: ("wildcards_available", "byte"),
    0x29: ("subscription_ids_available", "byte"),
    0x2A: ("shared_available", "byte"),
}
IDENTIFIERS = {name: (number, kind) for number, (name, kind) in PROPERTIES.items()}
WIDTHS = {"byte": ">B", "two": ">H", "four": ">I"}


class Malformed(Exception):
    """These bytes are no packet."""


class Cursor:
    """Reads a packet's body from its beginning."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, size):
        if self.at + size > len(self.data):
            raise Malformed("it ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def binary(self):
        return self.take(self.number(">H"))

    def text(self):
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("a text is not UTF-8") from error

    def varint(self):
        value = 0
        for place in range(4):
            byte = self.number(">B")
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise Malformed("a length of more than four bytes")

    def rest(self):
        return self.take(len(self.data) - self.at)

    def properties(self):
        """Returns properties by name, user properties as pairs, and the bytes of those."""
        inner = Cursor(self.take(self.varint()))
        found, user, user_bytes = {}, [], 0
        while inner.at < len(inner.data):
            number = inner.varint()
            if number not in PROPERTIES:
                raise Malformed(f"property {number:#x}")
            name, kind = PROPERTIES[number]
            if kind == "pair":
                user.append((inner.text(), inner.text()))
                user_bytes += sum(len(text.encode()) for text in user[-1])
            elif kind == "text":
                found[name] = inner.binary()
            elif kind == "varint":
                found[name] = inner.varint()
            else:
                found[name] = inner.number(WIDTHS[kind])
        return found, user, user_bytes


@dataclass
class Connect:
    version: int
    client_id: str
    clean: bool
    keep_alive: int
    username: str | None = None
    password: bytes | None = None
    will: tuple | None = None
    properties: dict = field(default_factory=dict)
    user: list = field(default_factory=list)
    will_properties: dict = field(default_factory=dict)


@dataclass
class Publish:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int | None
    properties: dict
    user: list
    user_property_bytes: int


def read_connect(body):
    cursor = Cursor(body)
    if cursor.text() != "MQTT":
        raise Malformed("another protocol")
    version, flags = cursor.number(">B"), cursor.number(">B")
    if version not in (4, 5):
        raise Malformed(f"version {version}")
    keep_alive = cursor.number(">H")
    properties, user, _ = cursor.properties() if version == 5 else ({}, [], 0)
    connect = Connect(version, cursor.text(), bool(flags & 2), keep_alive, properties=properties, user=user)
    if flags & 4:
        if version == 5:
            connect.will_properties = cursor.properties()[0]
        connect.will = (cursor.text(), cursor.binary(), flags >> 3 & 3, bool(flags & 0x20))
    if flags & 0x80:
        connect.username = cursor.text()
    if flags & 0x40:
        connect.password = cursor.binary()
    return connect


def read_publish(flags, body, version):
    cursor = Cursor(body)
    topic, qos = cursor.text(), flags >> 1 & 3
    packet_id = cursor.number(">H") if qos else None
    properties, user, user_bytes = cursor.properties() if version == 5 else ({}, [], 0)
    return Publish(
        topic, cursor.rest(), qos, bool(flags & 1), bool(flags & 8), packet_id, properties, user, user_bytes
    )


def read_subscribe(body, version):
    """Returns the packet identifier, the filters with their quality of service, and the properties."""
    cursor = Cursor(body)
    packet_id = cursor.number(">H")
    properties = cursor.properties()[0] if version == 5 else {}
    filters = []
    while cursor.at < len(body):
        filters.append((cursor.text(), cursor.number(">B") & 3))
    return packet_id, filters, properties


def read_unsubscribe(body, version):
    cursor = Cursor(body)
    packet_id = cursor.number(">H")
    if version == 5:
        cursor.properties()
    filters = []
    while cursor.at < len(body):
        filters.append(cursor.text())
    return packet_id, filters


def varint(value):
    digits = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        digits.append(digit | 0x80 if value else digit)
        if not value:
            return bytes(digits)


def binary(data):
    return struct.pack(">H", len(data)) + data


def text(data):
    return binary(data.encode())


def properties(user=(), **values):
    """Writes properties with their length."""
    body = bytearray()
    for name, value in values.items():
        number, kind = IDENTIFIERS[name]
        body.append(number)
        if kind == "text":
            body += binary(value)
        elif kind == "varint":
            body += varint(value)
        else:
            body += struct.pack(WIDTHS[kind], value)
    for pair in user:
        body += b"\x26" + text(pair[0]) + text(pair[1])
    return varint(len(body)) + bytes(body)


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connect(
    client_id, version=5, clean=True, keep_alive=60, will=None, will_delay=0, username=None, password=None, **values
):
    flags = (2 if clean else 0) | (4 | will[2] << 3 if will else 0)
    flags |= (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive)
    body += properties(**values) if version == 5 else b""
    body += text(client_id)
    if will:
        delay = properties(will_delay=will_delay) if will_delay else b"\0"
        body += (delay if version == 5 else b"") + text(will[0]) + binary(will[1])
    if username is not None:
        body += text(username)
    if password is not None:
        body += binary(password)
    return packet(CONNECT, 0, body)


def publish(topic, payload, packet_id=1, qos=1, retain=False, version=5, user=(), **values):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += properties(user, **values) if version == 5 else b""
    return packet(PUBLISH, qos << 1 | retain, body + payload)


def subscribe(filters, packet_id=1, version=5, qos=1, **values):
    body = struct.pack(">H", packet_id) + (properties(**values) if version == 5 else b"")
    return packet(SUBSCRIBE, 2, body + b"".join(text(each) + bytes([qos]) for each in filters))


async def read_packet(reader):
    """Reads one packet: type, flags and body; `None` at the end of the connection."""
    first = await reader.read(1)
    if not first:
        return None
    length, shift = 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 21:
            raise Malformed("a length of more than four bytes")
    if length > PACKET_BYTES_MAX:
        raise Malformed(f"a packet of {length} bytes")
    return first[0] >> 4, first[0] & 15, await reader.readexactly(length)
