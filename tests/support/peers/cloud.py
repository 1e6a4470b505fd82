"""The cloud: subscribes at a broker, decodes every batch, and keeps the receiver's book.

Readings are de-duplicated by (gw, up, ep, n, i) and by nothing else. The book says what came twice, what came twice
with different content, which numbers are missing, and what could not be decoded.
"""

import argparse
import asyncio
import json
from collections import Counter

import bson
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes

from envelope import OPTIONS, decode_batch, decode_single, inflate
from lines import format_us, serve, wait_until
from mqtt_client import make_properties, show_properties

READINGS_MAX = 5_000_000
OTHERS_MAX = 100_000
# What a second copy of a reading may differ in: it was sent again.
TRANSPORT = ("replayed",)


class Book:
    """What has arrived."""

    def __init__(self):
        self.readings = {}
        self.per_topic = Counter()
        self.per_uplink = Counter()
        self.repeated = Counter()
        self.gaps = {}
        self.duplicates = 0
        self.places = {}
        self.highest = {}
        self.reach = Counter()
        self.backwards = []
        self.conflicts = []
        self.malformed = []
        self.batches = 0
        self.wire_bytes = 0
        self.inflated_bytes = 0

    def take(self, reading):
        """Enters one reading; a second one under the same key must be the same."""
        key = tuple(reading[name] for name in ("gw", "up", "ep", "n", "i"))
        known = self.readings.setdefault(key, reading)
        up, stream = reading["up"], key[:4]
        if known is reading:
            self.per_topic[reading["n"]] += 1
            self.places[key] = self.per_uplink[up]
            self.per_uplink[up] += 1
            if reading["i"] < self.highest.get(stream, 0):
                self.backwards.append(list(key))
            self.highest[stream] = max(reading["i"], self.highest.get(stream, 0))
        else:
            self.duplicates += 1
            self.repeated[up] += 1
            self.reach[up] = max(self.reach[up], self.per_uplink[up] - self.places[key])
            same = all(known[name] == reading[name] for name in reading if name not in TRANSPORT)
            if not same:
                self.conflicts.append([known, reading])

    def take_gap(self, gap):
        stream = tuple(gap[name] for name in ("gw", "up", "ep", "n"))
        self.gaps.setdefault(stream, {})[(gap["from"], gap["to"])] = gap["why"]

    def streams(self):
        """Returns for each stream its first and last number and those between that neither came nor are a gap."""
        numbers = {}
        for *stream, number in self.readings:
            numbers.setdefault(tuple(stream), set()).add(number)
        rows = []
        for stream, present in sorted(numbers.items(), key=str):
            first, last = min(present), max(present)
            named = self.gaps.get(stream, {})
            excused = lambda number: any(start <= number <= end for start, end in named)
            holes = [number for number in range(first, last + 1) if number not in present and not excused(number)]
            row = dict(zip(("gw", "up", "ep", "n"), stream))
            rows.append({**row, "first": first, "last": last, "count": len(present), "holes": holes})
        return rows

    def report(self):
        streams = self.streams()
        return {
            "readings": len(self.readings),
            "batches": self.batches,
            "wire_bytes": self.wire_bytes,
            "inflated_bytes": self.inflated_bytes,
            "duplicates": self.duplicates,
            # By uplink: how many came twice, and how many others had come first since the one of them that is oldest.
            "repeated": self.repeated,
            "reach": self.reach,
            # Readings that came first behind one of the same stream with a higher number.
            "backwards": self.backwards,
            "conflicts": self.conflicts,
            "malformed": self.malformed,
            "streams": streams,
            "holes": sum(len(stream["holes"]) for stream in streams),
            "gaps": [
                {**dict(zip(("gw", "up", "ep", "n"), stream)), "from": start, "to": end, "why": why}
                for stream, named in self.gaps.items()
                for (start, end), why in named.items()
            ],
        }


class Cloud:
    """The subscriber at the broker, with a session that outlives the broker's restarts."""

    def __init__(self, options):
        self.options = options
        self.book = Book()
        self.others = []
        self.subscribed = False
        self.loop = asyncio.get_running_loop()
        version5 = options.version == 5
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=mqtt.MQTTv5 if version5 else mqtt.MQTTv311,
            **({} if version5 else {"clean_session": False}),
        )
        self.paho.reconnect_delay_set(0.05, 0.2)
        self.paho.on_connect = lambda *_: self.paho.subscribe([(text, 1) for text in options.topic])
        self.paho.on_subscribe = lambda *_: self.loop.call_soon_threadsafe(self._note_subscribed)
        self.paho.on_message = lambda _client, _userdata, message: self.loop.call_soon_threadsafe(
            self.take, message
        )

    async def start(self):
        extra = {}
        if self.options.version == 5:
            session = {"SessionExpiryInterval": 3600}
            extra = {"clean_start": False, "properties": make_properties(PacketTypes.CONNECT, session)}
        self.paho.connect_async("127.0.0.1", self.options.port, 60, **extra)
        self.paho.loop_start()
        if not await wait_until(lambda: self.subscribed, 20.0):
            raise TimeoutError("the broker did not accept the subscription")

    def take(self, message):
        """Decodes a message of the uplink, and keeps any other as it is."""
        properties = show_properties(getattr(message, "properties", None))
        try:
            if not self._decode(message, properties):
                if len(self.others) >= OTHERS_MAX:
                    raise OverflowError(f"more than {OTHERS_MAX} other messages")
                text = message.payload.decode(errors="replace")
                self.others.append({"topic": message.topic, "payload": text, "properties": properties})
        except Exception as error:  # any failure is a finding of the test
            shown = message.payload[:64].hex()
            self.book.malformed.append(
                {"topic": message.topic, "error": f"{type(error).__name__}: {error}", "payload_hex": shown}
            )

    def _decode(self, message, properties):
        """Returns whether the message was one of the uplink's, which the broker's own words tell: never a guess."""
        prefix = self.options.single_prefix
        if prefix and message.topic.startswith(prefix):
            is_bson = properties.get("ContentType") == "application/bson"
            document = bson.decode(message.payload, OPTIONS) if is_bson else json.loads(message.payload)
            self.book.take(decode_single(document, message.topic.removeprefix(prefix)))
            self._count(message.payload, message.payload)
            return True
        if self.options.version == 5:
            if properties.get("ContentType") != "application/bson":
                return False
            encodings = [value for name, value in properties.get("UserProperty", []) if name == "content-encoding"]
            if encodings not in ([], ["zlib"]):
                raise ValueError(f"content-encoding {encodings}")
            compressed = bool(encodings)
        else:
            word = message.topic.rsplit("/", 1)[-1]
            if word not in ("bson", "bson.z"):
                return False
            compressed = word == "bson.z"
        data = inflate(message.payload) if compressed else message.payload
        readings, gaps = decode_batch(data)
        if len(self.book.readings) + len(readings) > READINGS_MAX:
            raise OverflowError(f"more than {READINGS_MAX} readings")
        for reading in readings:
            self.book.take(reading)
        for gap in gaps:
            self.book.take_gap(gap)
        self._count(message.payload, data)
        return True

    def _count(self, wire, inflated):
        self.book.batches += 1
        self.book.wire_bytes += len(wire)
        self.book.inflated_bytes += len(inflated)

    def _note_subscribed(self):
        self.subscribed = True

    def readings(self, topic=None):
        """Returns the readings of one topic or of all, in the order of their numbers."""
        chosen = [reading for key, reading in self.book.readings.items() if topic in (None, key[3])]
        chosen.sort(key=lambda reading: (reading["n"], reading["ep"], reading["i"]))
        return [
            {**reading, "time": format_us(reading["time_us"]) if reading["time_us"] is not None else None}
            for reading in chosen
        ]

    def values(self, topic, up=None):
        """Returns only the values of one topic, of one uplink or of all; for long series."""
        return [reading["value"] for reading in self.readings(topic) if up in (None, reading["up"])]

    def order(self):
        """Returns what was taken in the order in which it came first, each as [up, n, i]."""
        return [[up, n, i] for _gw, up, _ep, n, i in self.book.readings]

    async def wait(self, count, topic=None, timeout=20.0):
        """Waits until `count` different readings are there, and returns their number."""
        have = lambda: len(self.book.readings) if topic is None else self.book.per_topic[topic]
        if not await wait_until(lambda: have() >= count, timeout):
            raise TimeoutError(f"{have()} of {count} readings; malformed: {self.book.malformed[:3]}")
        return have()

    async def wait_others(self, count=1, timeout=20.0):
        """Waits for messages that are not the uplink's, such as outcomes of commands, and returns all."""
        if not await wait_until(lambda: len(self.others) >= count, timeout):
            raise TimeoutError(f"{len(self.others)} of {count} other messages")
        return self.others

    async def publish(self, topic, payload, qos=1, retain=False, properties=None, timeout=10.0):
        """Sends a command down."""
        extra = {}
        if self.options.version == 5:
            extra["properties"] = make_properties(PacketTypes.PUBLISH, properties)
        sent = self.paho.publish(topic, payload, qos, retain, **extra)
        await asyncio.to_thread(sent.wait_for_publish, timeout)
        if not sent.is_published():
            raise TimeoutError("the broker did not acknowledge the command")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", action="append", required=True)
    parser.add_argument("--version", type=int, choices=(4, 5), default=5)
    parser.add_argument("--client-id", default="cloud")
    parser.add_argument("--single-prefix", help="topics under it carry one reading each (`message`, `json`)")
    cloud = Cloud(parser.parse_args())
    await cloud.start()
    requests = {
        "readings": cloud.readings,
        "order": cloud.order,
        "values": cloud.values,
        "wait": cloud.wait,
        "wait_others": cloud.wait_others,
        "publish": cloud.publish,
        "report": cloud.book.report,
    }
    await serve(requests)


if __name__ == "__main__":
    asyncio.run(main())
