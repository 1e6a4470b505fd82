"""A host application of Sparkplug B that follows the specification strictly, and writes down every fault of a node.

Payloads are read and written by pysparkplug's classes of the Eclipse schema, over Google's protobuf library. What is
checked of each message: quality of service, retain, sequence numbers without gaps, births before data, the pair of
`bdSeq` in births and deaths, that data names only what was announced, and that it is in order where it is not marked
as history. A node that the host has not seen born, or of which it has missed a message, is asked for a rebirth.
"""

import argparse
import asyncio
import json
import time

import paho.mqtt.client as mqtt
from pysparkplug._protobuf import sparkplug_b_pb2 as schema

from lines import serve, wait_until

REBIRTH = "Node Control/Rebirth"
VALUES_MAX = 1_000_000
BOOLEAN, INT64, DOUBLE, STRING = 11, 4, 10, 12


def now():
    return time.time_ns() // 1_000_000


def value_of(metric, datatype):
    """Returns a metric's value as its birth announced it; None for null."""
    if metric.is_null:
        return None
    field = metric.WhichOneof("value")
    if field is None:
        raise ValueError("neither null nor a value")
    value = getattr(metric, field)
    expected = {BOOLEAN: "boolean_value", DOUBLE: "double_value", 9: "float_value", STRING: "string_value"}
    wanted = expected.get(datatype, "long_value" if datatype in (INT64, 8, 13) else field)
    if field != wanted:
        raise ValueError(f"{field} for the type {datatype}")
    if datatype == INT64 and value >= 1 << 63:
        value -= 1 << 64
    return value.hex() if isinstance(value, bytes) else value


def quality_of(metric):
    if "Quality" not in metric.properties.keys:
        return 192
    place = list(metric.properties.keys).index("Quality")
    return metric.properties.values[place].int_value


class Part:
    """What a node or one of its devices has announced."""

    def __init__(self, metrics):
        self.types = {}
        self.aliases = {}
        self.last = {}
        for metric in metrics:
            if not metric.name or not metric.HasField("datatype") or not metric.HasField("timestamp"):
                raise ValueError(f"a birth without name, type or time: {metric}")
            if metric.name in self.types:
                raise ValueError(f"{metric.name} twice in a birth")
            if metric.is_historical:
                raise ValueError(f"{metric.name} is history in a birth")
            self.types[metric.name] = metric.datatype
            if metric.HasField("alias"):
                self.aliases[metric.alias] = metric.name


class Node:
    def __init__(self):
        self.bd_seq = None
        self.seq = None
        self.parts = {}  # None for the node itself
        self.asked_at = 0.0


class Host:
    def __init__(self, options):
        self.options = options
        self.nodes = {}
        self.faults = []
        self.values = {}
        self.messages = []
        self.loop = asyncio.get_running_loop()
        self.subscribed = False
        self.rebirths_asked = 0
        self.state_topic = f"spBv1.0/STATE/{options.host}" if options.state == "3.0" else f"STATE/{options.host}"
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"host-{options.host}", clean_session=True)
        self.paho.on_message = lambda _c, _u, message: self.loop.call_soon_threadsafe(self.take, message)
        self.paho.on_connect = lambda *_: self.paho.subscribe([(self.state_topic, 1), ("spBv1.0/#", 1)])
        self.paho.on_disconnect = lambda *_: self.loop.call_soon_threadsafe(self.nodes.clear)
        self.paho.on_subscribe = lambda *_: self.loop.call_soon_threadsafe(self._subscribed)
        self.online_since = now()

    async def start(self):
        self.paho.will_set(self.state_topic, self._state(False), 1, True)
        self.paho.connect("127.0.0.1", self.options.port, 60)
        self.paho.loop_start()
        if not await wait_until(lambda: self.subscribed, 20.0):
            raise TimeoutError("the broker did not accept the subscription")

    def _subscribed(self):
        self.subscribed = True
        if self.options.online:
            self.set_state(True)

    def _state(self, online):
        if self.options.state == "2.2":
            return "ONLINE" if online else "OFFLINE"
        return json.dumps({"online": online, "timestamp": self.online_since})

    def set_state(self, online, back=0):
        """Says whether the host is there, as of now or so many milliseconds ago."""
        self.online_since = now() - back
        self.paho.publish(self.state_topic, self._state(online), 1, True)

    def fault(self, topic, text):
        if len(self.faults) < 100:
            self.faults.append(f"{topic}: {text}")

    def take(self, message):
        if message.topic == self.state_topic:
            return
        levels = message.topic.split("/")
        if levels[0] != "spBv1.0" or len(levels) not in (4, 5) or levels[2] in ("NCMD", "DCMD"):
            return
        kind, device = levels[2], levels[4] if len(levels) == 5 else None
        key = f"{levels[1]}/{levels[3]}"
        try:
            payload = schema.Payload()
            payload.ParseFromString(message.payload)
            if message.retain:
                raise ValueError("retained")
            if kind != "NDEATH" and message.qos != 0:
                raise ValueError(f"quality of service {message.qos}")
            entry = {"kind": kind, "device": device, "at": now(), "metrics": len(payload.metrics)}
            entry["seq"] = payload.seq if payload.HasField("seq") else None
            if kind in ("NBIRTH", "NDEATH"):
                entry["bd_seq"] = self._bd_seq(payload)
            self.messages.append(entry)
            self._follow(key, kind, device, payload)
        except Exception as error:  # any failure is a finding of the test
            self.fault(message.topic, f"{type(error).__name__}: {error}")

    def _follow(self, key, kind, device, payload):
        node = self.nodes.setdefault(key, Node())
        if kind == "NDEATH":
            if payload.HasField("seq"):
                raise ValueError("a death with a sequence number")
            bd_seq = self._bd_seq(payload)
            if node.bd_seq is not None and bd_seq != node.bd_seq:
                raise ValueError(f"a death of {bd_seq} while {node.bd_seq} lives")
            self.nodes[key] = Node()
            return
        if not payload.HasField("seq") or not payload.HasField("timestamp"):
            raise ValueError("neither sequence number nor time")
        if kind == "NBIRTH":
            if payload.seq != 0:
                raise ValueError(f"a birth with the number {payload.seq}")
            bd_seq = self._bd_seq(payload)
            names = {metric.name: metric for metric in payload.metrics}
            if names[REBIRTH].datatype != BOOLEAN or names[REBIRTH].boolean_value:
                raise ValueError("Rebirth is no false")
            if names[REBIRTH].HasField("alias") or names["bdSeq"].HasField("alias"):
                raise ValueError("an alias where none may be")
            if node.bd_seq is not None and bd_seq != node.bd_seq:
                raise ValueError(f"another bdSeq, {bd_seq}, without a death of {node.bd_seq}")
            node.bd_seq, node.parts = bd_seq, {}
        elif node.bd_seq is None:
            self.ask_rebirth(key, node)
            return
        elif payload.seq != (node.seq + 1) % 256:
            self.fault(key, f"the number {payload.seq} after {node.seq}")
            self.ask_rebirth(key, node)
        node.seq = payload.seq
        if kind in ("NBIRTH", "DBIRTH"):
            part = Part(payload.metrics)
            node.parts[device] = part
            known = [alias for other in node.parts.values() for alias in other.aliases]
            if len(known) != len(set(known)):
                raise ValueError("an alias of two metrics")
            for metric in payload.metrics:
                self._note(device, metric.name, metric, part, "birth")
        elif kind == "DDEATH":
            if node.parts.pop(device, None) is None:
                raise ValueError("the death of a device that was not born")
        elif kind in ("NDATA", "DDATA"):
            self._take_data(device, payload, node)
        else:
            raise ValueError("an unknown kind of message")

    def _take_data(self, device, payload, node):
        part = node.parts.get(device)
        if part is None:
            raise ValueError("data before the birth")
        if not payload.metrics:
            raise ValueError("data without metrics")
        for metric in payload.metrics:
            if bool(part.aliases) == bool(metric.name) or metric.HasField("datatype"):
                raise ValueError("name, alias or type where it should not be")
            name = metric.name or part.aliases[metric.alias]
            if name not in part.types:
                raise ValueError(f"{name} was not announced")
            if not metric.is_historical and metric.timestamp < part.last.get(name, 0):
                raise ValueError(f"{name} goes back in time")
            self._note(device, name, metric, part, "data")

    def _note(self, device, name, metric, part, how):
        value = value_of(metric, part.types[name])
        if not metric.is_historical:
            part.last[name] = metric.timestamp
        values = self.values.setdefault((device, name), [])
        if len(values) >= VALUES_MAX:
            raise OverflowError("too many values")
        row = {"value": value, "time": metric.timestamp, "historical": metric.is_historical, "how": how}
        values.append({**row, "quality": quality_of(metric), "datatype": part.types[name]})

    @staticmethod
    def _bd_seq(payload):
        (metric,) = [metric for metric in payload.metrics if metric.name == "bdSeq"]
        if metric.WhichOneof("value") != "long_value" or metric.datatype not in (INT64, 8):
            raise ValueError("bdSeq of a wrong type")
        return metric.long_value

    def ask_rebirth(self, key, node=None):
        """Asks a node for its births; of its own accord at most once a second."""
        if node is not None and time.monotonic() - node.asked_at < 1.0:
            return
        if node is not None:
            node.asked_at = time.monotonic()
        self.rebirths_asked += 1
        self._command(key, None, {"name": REBIRTH}, True, BOOLEAN)

    def _command(self, key, device, metric_name, value, datatype):
        payload = schema.Payload()
        payload.timestamp = now()
        metric = payload.metrics.add()
        for field, text in metric_name.items():
            setattr(metric, field, text)
        metric.timestamp = payload.timestamp
        field = {BOOLEAN: "boolean_value", INT64: "long_value", DOUBLE: "double_value", STRING: "string_value"}
        setattr(metric, field[datatype], value)
        group, node = key.split("/")
        kind, tail = ("NCMD", "") if device is None else ("DCMD", f"/{device}")
        self.paho.publish(f"spBv1.0/{group}/{kind}/{node}{tail}", payload.SerializeToString(), 0)

    def write(self, node, metric, value, device=None, by_alias=True):
        """Writes to a metric as it was announced."""
        part = self.nodes[node].parts[device]
        name = {"name": metric}
        if by_alias:
            (alias,) = [alias for alias, known in part.aliases.items() if known == metric]
            name = {"alias": alias}
        self._command(node, device, name, value, part.types[metric])

    def seen(self, metric, device=None):
        return self.values.get((device, metric), [])

    async def wait_values(self, metric, values, device=None, timeout=20.0):
        """Waits until every one of `values` has come, in births or data."""
        wanted = set(values)
        missing = lambda: wanted - {row["value"] for row in self.seen(metric, device)}
        if not await wait_until(lambda: not missing(), timeout):
            raise TimeoutError(f"{len(missing())} of {len(wanted)} missing; faults: {self.faults[:3]}")
        return self.seen(metric, device)

    async def wait_messages(self, kind, count, timeout=20.0):
        """Waits until so many messages of a kind have come, and returns all of them."""
        found = lambda: [message for message in self.messages if message["kind"] == kind]
        if not await wait_until(lambda: len(found()) >= count, timeout):
            raise TimeoutError(f"{len(found())} of {count} {kind}; faults: {self.faults[:3]}")
        return found()

    def kinds(self):
        return [message["kind"] for message in self.messages]

    def report(self):
        return {"faults": self.faults, "rebirths_asked": self.rebirths_asked, "messages": len(self.messages)}


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="scada")
    parser.add_argument("--state", choices=["3.0", "2.2"], default="3.0")
    parser.add_argument("--offline", dest="online", action="store_false")
    host = Host(parser.parse_args())
    await host.start()
    handlers = {
        "set_state": host.set_state,
        "ask_rebirth": lambda node: host.ask_rebirth(node),
        "write": host.write,
        "seen": host.seen,
        "wait_values": host.wait_values,
        "wait_messages": host.wait_messages,
        "kinds": host.kinds,
        "report": host.report,
    }
    await serve(handlers)


if __name__ == "__main__":
    asyncio.run(main())
