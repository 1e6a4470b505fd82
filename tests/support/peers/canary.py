"""The canary of recipe R12: small round trips all the time, which must stay quick whatever is done to the gateway.

Every `interval` seconds it logs in over MQTT 5 and gets a message of its own with QoS 1, asks for the health over HTTP on
a new connection, and reads a resource over CoAP, each side by side and from an address of its own. `report` returns
for each protocol how many round trips there were, how long they took and the longest stretch without one. Beside them
it asks a plain server of its own, in a process of its own: `control` says what the machine itself takes at the time.
"""

import argparse
import asyncio
import os
import socket
import struct
import threading
import time

from lines import serve

TIMEOUT = 5.0


def text(value):
    """Writes a string of MQTT."""
    body = value.encode()
    return struct.pack(">H", len(body)) + body


def packet(head, body):
    """Writes a packet of MQTT of fewer than 16,384 bytes."""
    length = len(body)
    size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([head]) + size + body


async def read_packet(reader):
    """Reads one packet: its first byte and its body."""
    head = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return head, await reader.readexactly(length)


class Trips:
    """What one protocol's round trips were like."""

    def __init__(self, start):
        self.last = start
        self.gap = 0.0
        self.times = []
        self.errors = []

    def succeeded(self, begin, end):
        self.times.append(end - begin)
        self.gap = max(self.gap, end - self.last)
        self.last = end

    def report(self, now):
        times = sorted(self.times) or [TIMEOUT]
        return {
            "count": len(self.times),
            "errors": self.errors[:5],
            "failed": len(self.errors),
            "p50": times[len(times) // 2],
            "p99": times[min(len(times) - 1, len(times) * 99 // 100)],
            "max": times[-1],
            "gap": max(self.gap, now - self.last),
        }


def answer_lines(listener):
    """The server of the control: answers each connection with the line it sends."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(TIMEOUT)
            try:
                connection.sendall(connection.recv(64))
            except OSError:
                pass


def start_control():
    """Starts the server of the control in a process that ends with this one; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    parent = os.getpid()
    if os.fork() == 0:
        threading.Thread(target=answer_lines, args=(listener,), daemon=True).start()
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)
    port = listener.getsockname()[1]
    listener.close()
    return port


class Canary:
    """All round trips."""

    def __init__(self, options, control_port):
        self.options = options
        self.control_port = control_port
        self.source = (options.source, 0)
        self.number = 0
        self.restart()

    def restart(self):
        """Forgets what was measured."""
        now = asyncio.get_running_loop().time()
        kinds = {"mqtt": self.mqtt, "http": self.http, "coap": self.coap}
        self.kinds = {kind: trip for kind, trip in kinds.items() if getattr(self.options, kind)}
        self.kinds["control"] = self.control
        self.trips = {kind: Trips(now) for kind in self.kinds}

    async def run(self, kind):
        """One protocol's round trips, one after the other."""
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            trips = self.trips[kind]
            try:
                await asyncio.wait_for(self.kinds[kind](), TIMEOUT)
                trips.succeeded(begin, loop.time())
            except (OSError, asyncio.TimeoutError, EOFError, ValueError) as error:
                trips.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(max(0.0, begin + self.options.interval - loop.time()))

    async def mqtt(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.options.mqtt, local_addr=self.source)
        try:
            login = text(self.options.user) + text(self.options.password)
            client = text(f"canary-{os.getpid()}")
            writer.write(packet(0x10, text("MQTT") + b"\x05\xc2\x00\x1e\x00" + client + login))
            head, body = await read_packet(reader)
            if head != 0x20 or body[1] != 0:
                raise ValueError(f"CONNACK {body.hex()}")
            topic = text(self.options.topic)
            writer.write(packet(0x82, b"\x00\x01\x00" + topic + b"\x01"))
            head, body = await read_packet(reader)
            if head != 0x90 or body[-1] > 2:
                raise ValueError(f"SUBACK {body.hex()}")
            self.number += 1
            payload = str(self.number).encode()
            writer.write(packet(0x32, topic + b"\x00\x02\x00" + payload))
            waiting = {"PUBACK", "PUBLISH"}
            while waiting:
                head, body = await read_packet(reader)
                if head == 0x40:
                    if len(body) > 2 and body[2] >= 0x80:
                        raise ValueError(f"PUBACK {body.hex()}")
                    waiting.discard("PUBACK")
                elif head >> 4 == 3 and body.endswith(payload):
                    waiting.discard("PUBLISH")
            writer.write(b"\xe0\x00")
        finally:
            writer.close()

    async def http(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.options.http, local_addr=self.source)
        try:
            writer.write(b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise ValueError(answer[:40].decode(errors="replace"))
        finally:
            writer.close()

    async def coap(self):
        loop = asyncio.get_running_loop()
        answered = loop.create_future()

        class Ask(asyncio.DatagramProtocol):
            def datagram_received(self, data, _):
                if not answered.done():
                    answered.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(
            Ask, local_addr=self.source, remote_addr=("127.0.0.1", self.options.coap)
        )
        try:
            self.number += 1
            # CON GET /.well-known/core with a token.
            head = struct.pack(">BBH", 0x41, 0x01, self.number & 0xFFFF) + b"\x07"
            transport.sendto(head + b"\xbb.well-known\x04core")
            data = await answered
            if data[1] != 0x45:
                raise ValueError(f"CoAP {data[1] >> 5}.{data[1] & 31:02}")
        finally:
            transport.close()

    async def control(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.control_port)
        try:
            writer.write(b"ping\n")
            if await reader.readexactly(5) != b"ping\n":
                raise ValueError("another line")
        finally:
            writer.close()

    def report(self):
        now = asyncio.get_running_loop().time()
        return {kind: trips.report(now) for kind, trips in self.trips.items()}


async def main(control_port):
    parser = argparse.ArgumentParser()
    for name in ("mqtt", "http", "coap"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--user", default="canary")
    parser.add_argument("--password", default="")
    parser.add_argument("--topic", default="canary/trip")
    parser.add_argument("--source", default="127.0.0.2")
    parser.add_argument("--interval", type=float, default=0.2)
    canary = Canary(parser.parse_args(), control_port)
    running = [asyncio.create_task(canary.run(kind)) for kind in canary.kinds]
    await serve({"report": canary.report, "restart": canary.restart})
    for task in running:
        task.cancel()


if __name__ == "__main__":
    # Before there is any loop or thread that a fork would halve.
    asyncio.run(main(start_control()))
