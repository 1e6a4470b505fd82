"""An OPC UA server with presses in the namespace urn:example:press, as examples/press-hall expects it.

Press.{n}.Temperature is a Double that the test sets with status and source time; Press.{n}.Setpoint is a Double that
clients may write. With --types each press also has Count (Int64), Total (UInt64), Ratio (Float), Running (Boolean),
Name (String), Matrix (Int16, 2 x 3) and State, a structure with an enumeration, an array, a structure within and an
optional field; and the method Reset of the object Press.{n}.
"""

import argparse
import asyncio
import logging
from datetime import datetime, timezone

from asyncua import Server, ua
from asyncua.common.callback import CallbackType
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.server.internal_session import InternalSession

from lines import format_time, parse_time, serve

NAMESPACE = "urn:example:press"
ATTRIBUTES = [
    ("Temperature", ua.VariantType.Double, 20.0),
    ("Setpoint", ua.VariantType.Double, 0.0),
]
MORE_ATTRIBUTES = [
    ("Count", ua.VariantType.Int64, 0),
    ("Total", ua.VariantType.UInt64, 0),
    ("Ratio", ua.VariantType.Float, 0.0),
    ("Running", ua.VariantType.Boolean, False),
    ("Name", ua.VariantType.String, ""),
]


class Hall:
    """The server, its nodes and what clients wrote to them."""

    def __init__(self, options):
        self.options = options
        self.attributes = ATTRIBUTES + (MORE_ATTRIBUTES if options.types else [])
        self.server = Server()
        self.nodes = {}
        self.types = {}
        self.writes = []
        self.calls = []
        self.feeds = {}

    async def start(self):
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{self.options.port}/")
        self.server.set_server_name("press hall")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        # Namespaces registered before ours move its index: clients must go by the URI.
        for number in range(self.options.shift_namespace):
            await self.server.register_namespace(f"urn:example:before:{number}")
        self.index = await self.server.register_namespace(NAMESPACE)
        if self.options.types:
            await self._define_types()
        for number in range(1, self.options.presses + 1):
            await self.add_press(number)
        self.server.subscribe_server_callback(CallbackType.PostWrite, self._note_writes)
        await self.server.start()

    async def add_press(self, n):
        """Adds one press while clients are connected."""
        press = await self.server.nodes.objects.add_object(
            ua.NodeId(f"Press.{n}", self.index), ua.QualifiedName(f"Press.{n}", self.index)
        )
        for name, kind, value in self.attributes:
            node_id = f"Press.{n}.{name}"
            node = await press.add_variable(
                ua.NodeId(node_id, self.index), ua.QualifiedName(name, self.index), value, varianttype=kind
            )
            if name == "Setpoint":
                await node.set_writable()
            self.nodes[node_id] = node
            self.types[node_id] = kind
        if self.options.types:
            await self._add_structure_and_method(press, n)

    async def _define_types(self):
        mode = await new_enum(self.server, self.index, "PressMode", ["Off", "Manual", "Automatic"])
        drive, _ = await new_struct(
            self.server,
            self.index,
            "PressDrive",
            [new_struct_field("Speed", ua.VariantType.UInt16), new_struct_field("Current", ua.VariantType.Float)],
        )
        self.state_type, _ = await new_struct(
            self.server,
            self.index,
            "PressState",
            [
                new_struct_field("Mode", mode),
                new_struct_field("Temperature", ua.VariantType.Double),
                new_struct_field("Names", ua.VariantType.String, array=True),
                new_struct_field("Drive", drive),
                new_struct_field("Alarm", ua.VariantType.UInt32, optional=True),
            ],
        )
        await self.server.load_data_type_definitions()

    async def _add_structure_and_method(self, press, n):
        matrix = ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int16)
        for name, value, data_type in [
            ("State", self._state(20.0, 1, ["a", "b"]), self.state_type.nodeid),
            ("Matrix", matrix, ua.NodeId(ua.ObjectIds.Int16)),
        ]:
            node_id = f"Press.{n}.{name}"
            self.nodes[node_id] = await press.add_variable(
                ua.NodeId(node_id, self.index), ua.QualifiedName(name, self.index), value, datatype=data_type
            )
        argument = lambda name, kind: ua.Argument(Name=name, DataType=ua.NodeId(kind.value), ValueRank=-1)
        await press.add_method(
            ua.NodeId(f"Press.{n}.Reset", self.index),
            ua.QualifiedName("Reset", self.index),
            self._reset,
            [argument("Speed", ua.VariantType.UInt16), argument("Mode", ua.VariantType.String)],
            [argument("Total", ua.VariantType.Double), ua.Argument(Name="State", DataType=self.state_type.nodeid, ValueRank=-1)],
        )

    def _state(self, temperature, speed, names, alarm=None):
        drive = ua.PressDrive(Speed=speed, Current=0.5)
        return ua.PressState(
            Mode=ua.PressMode.Automatic, Temperature=temperature, Names=names, Drive=drive, Alarm=alarm
        )

    async def set_state(self, node, temperature, speed, names, alarm=None):
        """Sets a node of the structured type."""
        await self.nodes[node].write_value(self._state(temperature, speed, names, alarm))

    async def _reset(self, _parent, speed, mode):
        self.calls.append([speed.Value, speed.VariantType.name, mode.Value])
        if speed.Value > 1000:
            return ua.StatusCode(ua.StatusCodes.BadOutOfRange)
        total = ua.Variant(speed.Value * 2.0, ua.VariantType.Double)
        return [total, ua.Variant(self._state(21.5, speed.Value, [mode.Value], 7))]

    def take_calls(self):
        """Returns the arguments with which the method was called since the last time."""
        calls, self.calls = self.calls, []
        return calls

    async def remove(self, node):
        """Deletes a node; clients that watch it learn so by its status."""
        await self.server.delete_nodes([self.nodes.pop(node)], recursive=True)

    async def set(self, node, value=None, status=0, source_time=None):
        """Sets value, status code and source time of a node; the time is now unless given."""
        moment = parse_time(source_time) if source_time else datetime.now(timezone.utc)
        kind = self.types[node]
        if isinstance(value, str) and kind in (ua.VariantType.Double, ua.VariantType.Float):
            value = float(value)  # "NaN" and "Infinity", which JSON cannot say
        data = ua.DataValue(
            ua.Variant(value, kind) if value is not None else ua.Variant(),
            StatusCode=ua.StatusCode(status),
            SourceTimestamp=moment,
            ServerTimestamp=datetime.now(timezone.utc),
        )
        await self.server.write_attribute_value(self.nodes[node].nodeid, data)
        return format_time(moment)

    async def read(self, node):
        """Returns what the node holds now."""
        data = await self.nodes[node].read_data_value(raise_on_bad_status=False)
        value = data.Value.Value
        return {
            "value": value if not isinstance(value, float) or value - value == 0 else str(value),
            "type": data.Value.VariantType.name,
            "status": data.StatusCode.value,
            "source_time": format_time(data.SourceTimestamp),
        }

    async def set_writable(self, node, writable):
        """Lets clients write the node, or refuses them."""
        await self.nodes[node].set_writable(writable)

    def take_writes(self):
        """Returns what clients wrote since the last call: node, value, type and the status they got."""
        writes, self.writes = self.writes, []
        return writes

    def feed(self, name, node, count, interval, first=1.0):
        """Counts `first`, `first + 1`, ... on a node in the background, one value an interval."""

        async def run():
            for number in range(count):
                await self.set(node, first + number)
                await asyncio.sleep(interval)

        if name in self.feeds and not self.feeds[name].done():
            raise ValueError(f"the feed {name!r} is still running")
        self.feeds[name] = asyncio.create_task(run())

    async def feed_wait(self, name, timeout=30.0):
        """Waits for the end of a feed."""
        await asyncio.wait_for(self.feeds[name], timeout)

    def hold_types(self):
        """Lets nobody read how structures are laid out, until they are released."""
        self.types_released = asyncio.Event()
        read = InternalSession.read

        async def held(session, params):
            if any(node.AttributeId == ua.AttributeIds.DataTypeDefinition for node in params.NodesToRead):
                await self.types_released.wait()
            return await read(session, params)

        InternalSession.read = held

    def release_types(self):
        """Ends the wait of those who read how structures are laid out."""
        self.types_released.set()

    def lose_message(self):
        """Loses a message of each subscription, which the next keep-alive, sent at once, tells by its number."""
        for subscription in self.server.iserver.subscription_service.subscriptions.values():
            subscription._notification_seq += 1
            subscription._keep_alive_count = subscription.data.RevisedMaxKeepAliveCount

    async def sessions(self):
        """Returns how many clients are connected."""
        return len(self.server.bserver.clients)

    def _note_writes(self, event, _service):
        if not event.is_external:
            return
        for write, status in zip(event.request_params.NodesToWrite, event.response_params):
            variant = write.Value.Value
            self.writes.append(
                {
                    "node": write.NodeId.Identifier,
                    "value": variant.Value,
                    "type": variant.VariantType.name,
                    "status": status.value,
                }
            )


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--presses", type=int, default=1)
    parser.add_argument("--shift-namespace", type=int, default=0)
    parser.add_argument("--types", action="store_true")
    hall = Hall(parser.parse_args())
    logging.basicConfig(level=logging.ERROR)
    await hall.start()
    try:
        requests = {
            "add_press": hall.add_press,
            "remove": hall.remove,
            "set": hall.set,
            "read": hall.read,
            "set_writable": hall.set_writable,
            "set_state": hall.set_state,
            "writes": hall.take_writes,
            "calls": hall.take_calls,
            "hold_types": hall.hold_types,
            "release_types": hall.release_types,
            "lose_message": hall.lose_message,
            "feed": hall.feed,
            "feed_wait": hall.feed_wait,
            "sessions": hall.sessions,
        }
        await serve(requests, port=hall.options.port, namespace_index=hall.index)
    finally:
        await hall.server.stop()


if __name__ == "__main__":
    asyncio.run(main())
