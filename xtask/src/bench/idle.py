"""Idle MQTT clients for `cargo xtask bench identity`: PORT COUNT [AUTHORITY CERTIFICATE KEY].

Each connects, over TLS if files are given, subscribes to one topic and then says nothing more. `ready` is printed when
all are there; they go with the end of standard input.
"""

import asyncio
import ssl
import struct
import sys

AT_ONCE = 32


def text(word):
    data = word.encode()
    return struct.pack("!H", len(data)) + data


def packet(kind, body):
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


async def connect(port, number, context):
    name = "localhost" if context else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    # MQTT 3.1.1, clean session, no keep-alive (3.1).
    writer.write(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(f"idle-{number}")))
    answer = await reader.readexactly(4)
    assert answer == b"\x20\x02\x00\x00", answer
    writer.write(packet(0x82, b"\x00\x01" + text(f"hall1/press-{number}/setpoint") + b"\x01"))
    answer = await reader.readexactly(5)
    assert answer == b"\x90\x03\x00\x01\x01", answer
    return reader, writer


async def main(port, count, files):
    context = None
    if files:
        authority, certificate, key = files
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(certificate, key)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        async with places:
            return await connect(port, number, context)

    connections = await asyncio.gather(*(one(number) for number in range(count)))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for _, writer in connections:
        writer.transport.abort()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
