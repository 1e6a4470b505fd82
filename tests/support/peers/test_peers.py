"""The peers judge the gateway, so they are judged first: hand-made batches, and a book with planted faults."""

import struct
import unittest
import zlib
from argparse import Namespace
from datetime import datetime, timezone

import bson
from bson.int64 import Int64

from astarte_rules import Realm, Violation, read_list, write_list
from cloud import Book
from envelope import OPTIONS, EnvelopeError, decode_batch, decode_single, inflate
from sparkplug_host import REBIRTH, Host, schema

T0 = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=timezone.utc)
T0_US = int(T0.timestamp() * 1000) * 1000


def batch(streams, **more):
    head = {"v": 1, "gw": "g", "up": "cloud", "ep": Int64(7), "seq": Int64(1), "t0": T0}
    return bson.encode({**head, "s": streams, **more})


def reading(number, value=1.0, name="a/b"):
    stream = {"n": name, "i": Int64(number), "dt": [0], "x": [value]}
    return decode_batch(batch([stream]))[0][0]


class Decoding(unittest.TestCase):
    def test_columns_keep_type_time_unit_and_status(self):
        values = [21.5, float("nan"), Int64(2**53 + 1), 3, True, "x", None, b"\0\xff", {"a": 1}]
        stream = {
            "n": "hall1/boiler/temperature",
            "u": "Cel",
            "i": Int64(5),
            "dt": list(range(0, 90, 10)),
            "x": values,
            "q": [{"at": 1, "status": Int64(0x80000000)}],
        }
        readings, gaps = decode_batch(batch([stream]))
        self.assertEqual([row["i"] for row in readings], list(range(5, 14)))
        self.assertEqual(
            [row["type"] for row in readings],
            ["double", "double", "int64", "int32", "boolean", "string", "null", "binary", "document"],
        )
        self.assertEqual(readings[2]["value"], 2**53 + 1)
        self.assertEqual((readings[1]["value"], readings[1]["text"]), (None, "nan"))
        self.assertEqual([row["status"] for row in readings[:3]], [0, 0x80000000, 0])
        self.assertEqual(readings[3]["time_us"], T0_US + 30_000)
        self.assertEqual({row["unit"] for row in readings}, {"Cel"})
        self.assertEqual(gaps, [])

    def test_microseconds_and_untrusted_clock(self):
        stream = {"n": "a", "i": Int64(1), "dt": [Int64(1)], "x": [1]}
        (row,), _ = decode_batch(batch([stream], tu=3, ct=False))
        self.assertEqual((row["time_us"], row["clock_trusted"]), (T0_US + 1, False))

    def test_packed_kinds(self):
        times = bytes([0x00, 0x14, 0x14])  # 0, 10, 20
        cases = [
            # 215, then -2, then +300 (zigzag 430, 3, 600)
            ({"k": 1, "e": 1, "x": bytes([0xAE, 0x03, 0x03, 0xD8, 0x04])}, [21.5, 21.3, 51.3], "double"),
            ({"k": 2, "x": struct.pack("<3d", 0.1, -1.0, 1e300)}, [0.1, -1.0, 1e300], "double"),
            ({"k": 3, "x": struct.pack("<3f", 0.5, -1.0, 2.0)}, [0.5, -1.0, 2.0], "double"),
            ({"k": 4, "x": bytes([0x02, 0x01, 0x04])}, [1, 0, 2], "int64"),
            ({"k": 5, "x": bytes([0b101])}, [True, False, True], "boolean"),
            ({"k": 6, "x": ["a", "b", "c"]}, ["a", "b", "c"], "string"),
        ]
        for columns, values, kind in cases:
            with self.subTest(kind=columns["k"]):
                readings, _ = decode_batch(batch([{"n": "a", "i": Int64(1), "dt": times, **columns}]))
                self.assertEqual([row["value"] for row in readings], values)
                self.assertEqual({row["type"] for row in readings}, {kind})
                self.assertEqual([row["time_us"] - T0_US for row in readings], [0, 10_000, 20_000])

    def test_single_documents(self):
        document = {"v": 2.5, "t": T0, "u": "bar", "ep": Int64(7), "i": Int64(3)}
        row = decode_single(bson.decode(bson.encode(document), OPTIONS), "a/b")
        self.assertEqual((row["n"], row["i"], row["value"], row["unit"]), ("a/b", 3, 2.5, "bar"))
        self.assertEqual(row["time_us"], T0_US)
        row = decode_single({**document, "t": "2026-03-01T12:00:00.123Z"}, "a/b")
        self.assertEqual((row["time_us"], row["time_text"]), (None, "2026-03-01T12:00:00.123Z"))

    def test_broken_batches_are_refused(self):
        uneven = {"n": "a", "i": Int64(1), "dt": [0, 1], "x": [1.0]}
        beside = {"n": "a", "i": Int64(1), "dt": [0], "x": [1.0], "q": [{"at": 1, "status": Int64(1)}]}
        endless = {"n": "a", "i": Int64(1), "dt": b"\x80", "k": 4, "x": b"\x00"}
        for stream in (uneven, beside, endless):
            with self.assertRaises(EnvelopeError):
                decode_batch(batch([stream]))
        packed = zlib.compress(batch([]))
        self.assertEqual(inflate(packed), batch([]))
        for damaged in (packed + b"\0", packed[:-1]):
            with self.assertRaises(EnvelopeError):
                inflate(damaged)


class Bookkeeping(unittest.TestCase):
    def test_the_same_reading_twice_is_a_duplicate_only(self):
        book = Book()
        book.take(reading(1))
        book.take({**reading(1), "replayed": True})
        self.assertEqual((book.duplicates, book.conflicts, len(book.readings)), (1, [], 1))

    def test_another_reading_under_a_known_number_is_a_conflict(self):
        book = Book()
        book.take(reading(1, 1.0))
        book.take(reading(1, 2.0))
        self.assertEqual(len(book.conflicts), 1)

    def test_order_and_reach_of_repetitions_are_noted(self):
        book = Book()
        for number in (1, 2, 4, 3, 5, 2):
            book.take(reading(number))
        report = book.report()
        self.assertEqual([key[-1] for key in report["backwards"]], [3])
        self.assertEqual((report["repeated"], report["reach"]), ({"cloud": 1}, {"cloud": 4}))

    def test_holes_are_found_and_gaps_excuse_them(self):
        book = Book()
        for number in (1, 2, 5, 9):
            book.take(reading(number))
        book.take_gap({"gw": "g", "up": "cloud", "ep": 7, "n": "a/b", "from": 3, "to": 4, "why": "dropped"})
        (stream,) = book.streams()
        self.assertEqual((stream["first"], stream["last"], stream["holes"]), (1, 9, [6, 7, 8]))
        self.assertEqual(book.report()["holes"], 3)


def sparkplug(kind, metrics, seq=None, device=None, qos=0, retain=False, drop=()):
    """A message as the host gets it; `metrics` are (name or alias, type, field, value, historical)."""
    payload = schema.Payload(timestamp=5)
    if seq is not None:
        payload.seq = seq
    for key, datatype, field, value, historical in metrics:
        metric = payload.metrics.add(timestamp=1000 + value if isinstance(value, int) else 1000)
        setattr(metric, "name" if isinstance(key, str) else "alias", key)
        if datatype and "datatype" not in drop:
            metric.datatype = datatype
        if field:
            setattr(metric, field, value)
        else:
            metric.is_null = True
        if historical:
            metric.is_historical = True
    if kind == "DBIRTH" and "alias" not in drop:
        for alias, metric in enumerate(payload.metrics, 1):
            metric.alias = alias
    topic = f"spBv1.0/g/{kind}/e" + (f"/{device}" if device else "")
    return Namespace(topic=topic, payload=payload.SerializeToString(), qos=qos, retain=retain)


class SparkplugHost(unittest.IsolatedAsyncioTestCase):
    """A node without fault is found to have none; each planted fault is found."""

    NBIRTH = [("bdSeq", 4, "long_value", 3, False), (REBIRTH, 11, "boolean_value", False, False)]
    DBIRTH = [("t", 4, "long_value", 7, False)]

    def host(self, *messages):
        host = Host(Namespace(host="h", state="3.0", port=0, online=False))
        for message in messages:
            host.take(message)
        return host

    def births(self):
        return sparkplug("NBIRTH", self.NBIRTH, 0), sparkplug("DBIRTH", self.DBIRTH, 1, "d")

    async def test_a_right_node_is_followed(self):
        data = sparkplug("DDATA", [(1, 0, "long_value", 8, False), (1, 0, None, 9, False)], 2, "d")
        late = sparkplug("DDATA", [(1, 0, "long_value", 1, True)], 3, "d")
        death = sparkplug("NDEATH", self.NBIRTH[:1], qos=1)
        host = self.host(*self.births(), data, late, death)
        self.assertEqual(host.faults, [])
        rows = host.seen("t", "d")
        self.assertEqual([row["value"] for row in rows], [7, 8, None, 1])
        self.assertEqual([row["historical"] for row in rows], [False, False, False, True])
        self.assertEqual(host.rebirths_asked, 0)

    async def test_planted_faults_are_found(self):
        live = [(1, 0, "long_value", 8, False)]
        other = [("bdSeq", 4, "long_value", 4, False)]
        cases = [
            (sparkplug("DDATA", live, 3, "d"), "the number 3 after 1"),
            (sparkplug("DDATA", live, 2, "x"), "data before the birth"),
            (sparkplug("DDATA", [(2, 0, "long_value", 8, False)], 2, "d"), "KeyError"),
            (sparkplug("DDATA", [("t", 0, "long_value", 8, False)], 2, "d"), "name, alias or type"),
            (sparkplug("DDATA", [(1, 0, "double_value", 8.0, True)], 2, "d"), "double_value for the type 4"),
            (sparkplug("DDATA", [(1, 0, "long_value", 1, False)], 2, "d"), "goes back in time"),
            (sparkplug("DDATA", live, 2, "d", qos=1), "quality of service"),
            (sparkplug("DDATA", live, 2, "d", retain=True), "retained"),
            (sparkplug("DDATA", live, None, "d"), "neither sequence number"),
            (sparkplug("DDATA", [], 2, "d"), "without metrics"),
            (sparkplug("NBIRTH", self.NBIRTH, 2), "a birth with the number 2"),
            (sparkplug("NBIRTH", other + self.NBIRTH[1:], 0), "another bdSeq"),
            (sparkplug("NBIRTH", self.NBIRTH[:1], 0), "KeyError"),
            (sparkplug("DBIRTH", self.DBIRTH, 2, "d", drop=["datatype"]), "without name, type or time"),
            (sparkplug("DBIRTH", self.DBIRTH, 2, "e"), "an alias of two metrics"),
            (sparkplug("NDEATH", other, qos=1), "a death of 4"),
            (sparkplug("NDEATH", self.NBIRTH[:1], 2, qos=1), "a death with a sequence number"),
            (sparkplug("DDEATH", [], 2, "x"), "not born"),
        ]
        for message, expected in cases:
            with self.subTest(expected):
                host = self.host(*self.births(), message)
                self.assertEqual(len(host.faults), 1, host.faults)
                self.assertIn(expected, host.faults[0])

    async def test_what_was_missed_is_asked_for(self):
        self.assertEqual(self.host(sparkplug("DDATA", [], 9, "d")).rebirths_asked, 1)



class AstarteRules(unittest.TestCase):
    """Each rule of the realm first refuses a device that breaks it."""

    def setUp(self):
        mapping = {"endpoint": "/%{n}/x", "type": "double"}
        head = {"version_major": 1, "version_minor": 2, "type": "datastream", "ownership": "device"}
        sure = {**mapping, "type": "integer", "reliability": "guaranteed"}
        many = {**mapping, "type": "integerarray"}
        members = [{"endpoint": "/%{n}/a", "type": "double", "required": True}, {"endpoint": "/%{n}/b", "type": "string"}]
        settings = [
            {"endpoint": "/on", "type": "boolean", "allow_unset": True},
            {"endpoint": "/name", "type": "string"},
        ]
        self.realm = Realm(
            [
                {**head, "interface_name": "org.A", "mappings": [mapping]},
                {**head, "interface_name": "org.Sure", "mappings": [sure]},
                {**head, "interface_name": "org.Many", "mappings": [many]},
                {**head, "interface_name": "org.Object", "aggregation": "object", "mappings": members},
                {**head, "interface_name": "org.Config", "type": "properties", "mappings": settings},
                {**head, "interface_name": "org.Server", "ownership": "server", "mappings": [mapping]},
            ]
        )
        names = ["A", "Sure", "Many", "Object", "Config", "Server"]
        self.introspection = self.realm.read_introspection(";".join(f"org.{name}:1:2" for name in names).encode())

    def take(self, name, path, value, qos=0, **more):
        payload = value if isinstance(value, bytes) else bson.encode({"v": value, **more})
        return self.realm.check_data(self.introspection, name, path, payload, qos)

    def test_sound_data_is_taken(self):
        self.assertEqual(self.take("org.A", "/1/x", 1.5)[1:], (1.5, None))
        self.take("org.A", "/1/x", 1)  # an int32 is a number
        self.take("org.Sure", "/1/x", -0x7FFFFFFF, 1)
        self.take("org.Many", "/1/x", [1, 2])
        self.take("org.Object", "/1", {"a": 1.0, "b": "x"}, t=T0)
        self.take("org.Config", "/on", True, 2)
        self.assertIsNone(self.take("org.Config", "/on", b"", 2)[1])

    def test_each_rule_refuses(self):
        broken = [
            ("invalid_interface", "org.B", "/1/x", 1.0, 0),
            ("write_on_server_owned_interface", "org.Server", "/1/x", 1.0, 0),
            ("mapping_not_found", "org.A", "/1/y", 1.0, 0),
            ("mapping_not_found", "org.A", "//x", 1.0, 0),
            ("mapping_not_found", "org.Object", "/1/a", 1.0, 0),
            ("qos 1 where 0 is expected", "org.A", "/1/x", 1.0, 1),
            ("qos 0 where 1 is expected", "org.Sure", "/1/x", 1, 0),
            ("qos 1 where 2 is expected", "org.Config", "/on", True, 1),
            ("unexpected_value_type", "org.A", "/1/x", "1", 0),
            ("unexpected_value_type", "org.A", "/1/x", float("nan"), 0),
            ("unexpected_value_type", "org.A", "/1/x", True, 0),
            ("unexpected_value_type", "org.Sure", "/1/x", -(2**31), 1),
            ("unexpected_value_type", "org.Sure", "/1/x", 1.0, 1),
            ("unexpected_value_type", "org.Many", "/1/x", [1, None], 0),
            ("value_size_exceeded", "org.Many", "/1/x", [1] * 1025, 0),
            ("value_size_exceeded", "org.Config", "/name", "x" * 65_530, 2),
            ("unexpected_object_key", "org.Object", "/1", {"a": 1.0, "c": 1.0}, 0),
            ("missing_required_mapping", "org.Object", "/1", {"b": "x"}, 0),
            ("unset_not_allowed", "org.Config", "/name", b"", 2),
            ("unset_not_allowed", "org.A", "/1/x", b"", 0),
            ("undecodable_bson_payload", "org.A", "/1/x", b"\5\0\0\0\0", 0),
            ("undecodable_bson_payload", "org.A", "/1/x", b"hello", 0),
        ]
        for name, *message in broken:
            with self.subTest(message), self.assertRaisesRegex(Violation, f"^{name}$"):
                self.take(*message)
        with self.assertRaisesRegex(Violation, "undecodable"):
            self.take("org.Config", "/on", True, 2, t=T0)  # properties have no time

    def test_introspections_and_lists_are_read(self):
        for name, text in [
            ("invalid_introspection", b"org.A:1:2;"),
            ("invalid_introspection", b"org.A:1"),
            ("interface_loading_failed", b"org.A:2:0"),
            ("interface_loading_failed", b"org.A:1:3"),
            ("interface_loading_failed", b"org.None:1:0"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(Violation, name):
                self.realm.read_introspection(text)
        self.assertEqual(self.realm.read_introspection(b""), {})
        self.assertEqual(read_list(write_list(["a/b", "c/d"])), ["a/b", "c/d"])
        self.assertEqual((read_list(b"\0\0\0\0"), read_list(write_list([]))), ([], []))
        for wrong in [b"", b"\0\0\0\1" + zlib.compress(b"ab"), b"\0\0\0\2ab"]:
            with self.subTest(wrong), self.assertRaises(Violation):
                read_list(wrong)


if __name__ == "__main__":
    unittest.main()
