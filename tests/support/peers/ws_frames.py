"""The server's side of WebSocket frames (RFC 6455), as far as MQTT goes in them."""

import asyncio
import base64
import hashlib
import struct

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FRAME_BYTES_MAX = 1 << 20


class NoWebSocket(Exception):
    """The request is not one for frames."""


async def upgrade(reader, writer, check=lambda path, headers: None):
    """Answers the request for frames; returns its path and reader and writer of what is in them.

    What `check` raises is answered with 403.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if method != "GET" or headers.get("upgrade", "").lower() != "websocket":
        raise NoWebSocket(head[0])
    if headers.get("sec-websocket-protocol") != "mqtt":
        raise NoWebSocket(f"subprotocol {headers.get('sec-websocket-protocol')!r}")
    try:
        check(path, headers)
    except Exception:
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        raise
    accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
    )
    inner = asyncio.StreamReader(limit=FRAME_BYTES_MAX)
    frames = Writer(writer)
    frames.pump = asyncio.create_task(_pump(reader, writer, inner))
    return path, headers, inner, frames


async def _pump(reader, writer, inner):
    try:
        while True:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                length = struct.unpack(">H", await reader.readexactly(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", await reader.readexactly(8))[0]
            if not second & 0x80 or length > FRAME_BYTES_MAX:
                break
            mask = await reader.readexactly(4)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length)))
            kind = first & 15
            if kind in (0, 2):
                inner.feed_data(data)
            elif kind == 9:
                writer.write(bytes([0x8A, len(data)]) + data)
            elif kind == 8:
                writer.write(b"\x88\x00")
                break
    except (OSError, asyncio.IncompleteReadError):
        pass
    inner.feed_eof()


class Writer:
    """Writes bytes in frames."""

    def __init__(self, writer):
        self.writer = writer
        self.pump = None

    def write(self, data):
        size = len(data)
        head = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
        if size > 65_535:
            head = b"\x7f" + struct.pack(">Q", size)
        self.writer.write(b"\x82" + head + data)

    def close(self):
        self.writer.close()

    def is_closing(self):
        return self.writer.is_closing()

    def get_extra_info(self, name):
        return self.writer.get_extra_info(name)
