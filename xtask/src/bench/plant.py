"""An OPC UA server for `cargo xtask bench`: PORT NODES.

The variables `Device.1` to `Device.NODES` in urn:example:plant are doubles. A line with a number of seconds on standard
input makes each change ten times a second for that long, or as often as the server manages; `done` answers it.
"""

import asyncio
import sys
from datetime import datetime, timezone

from asyncua import Server, ua

INTERVAL = 0.1


async def start(port, count):
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace("urn:example:plant")
    names = [f"Device.{number}" for number in range(1, count + 1)]
    nodes = [
        (await server.nodes.objects.add_variable(ua.NodeId(name, index), name, 20.0)).nodeid for name in names
    ]
    await server.start()
    return server, nodes


async def run(server, nodes, seconds):
    loop = asyncio.get_running_loop()
    start = loop.time()
    step = 0
    while loop.time() < start + seconds:
        step += 1
        now = datetime.now(timezone.utc)
        for number, node in enumerate(nodes):
            # Tenths of a degree, never twice the same.
            value = 20.0 + ((number * 7 + step) % 100) / 10
            data = ua.DataValue(ua.Variant(value, ua.VariantType.Double), SourceTimestamp=now, ServerTimestamp=now)
            await server.write_attribute_value(node, data)
            if number % 100 == 99:
                await asyncio.sleep(0)  # publishing goes on meanwhile
        await asyncio.sleep(max(0.001, start + step * INTERVAL - loop.time()))


async def main():
    server, nodes = await start(int(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await run(server, nodes, float(line))
        print("done", flush=True)
    await server.stop()


asyncio.run(main())
