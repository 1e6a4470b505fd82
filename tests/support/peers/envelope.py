"""The receiver's side of docs/telemetry-envelope.md, with Python's bson and zlib alone."""

import base64
import struct
import zlib

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64

INFLATED_BYTES_MAX = 64 * 1024 * 1024
OPTIONS = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


class EnvelopeError(Exception):
    """The bytes are not what the page promises."""


def inflate(payload):
    """Inflates one whole zlib stream, with nothing after it."""
    inflater = zlib.decompressobj()
    data = inflater.decompress(payload, INFLATED_BYTES_MAX)
    if not inflater.eof or inflater.unused_data:
        raise EnvelopeError("not exactly one zlib stream within the limit")
    return data


def decode_batch(data):
    """Returns the readings and the gaps of one batch."""
    batch = bson.decode(data, OPTIONS)
    version = batch.get("v")
    if version != 1:
        raise EnvelopeError(f"version {version!r}")
    source = {"gw": batch["gw"], "up": batch["up"], "ep": int(batch["ep"])}
    base_us = int(batch["t0"]) * 1000
    unit_us = {0: 1000, 3: 1}[batch.get("tu", 0)]
    clock_trusted = batch.get("ct", True)
    readings = []
    for stream in batch["s"]:
        times, values = _columns(stream)
        if len(times) != len(values):
            raise EnvelopeError(f"{len(times)} times for {len(values)} values in {stream['n']}")
        statuses = {int(entry["at"]): int(entry["status"]) for entry in stream.get("q", [])}
        ends = {int(entry["at"]): int(entry["until"]) for entry in stream.get("q", []) if "until" in entry}
        if any(not 0 <= at < len(values) for at in statuses):
            raise EnvelopeError(f"a status beside the values of {stream['n']}")
        for at, (time, value) in enumerate(zip(times, values)):
            reading = {
                **source,
                "n": stream["n"],
                "i": int(stream["i"]) + at,
                "time_us": base_us + time * unit_us,
                "status": statuses.get(at, 0),
                "until_ms": ends.get(at),
                "unit": stream.get("u"),
                "replayed": stream.get("r", False),
                "clock_trusted": clock_trusted,
                **describe(value),
            }
            readings.append(reading)
    gaps = [
        {**source, "n": gap["n"], "from": int(gap["from"]), "to": int(gap["to"]), "why": gap["why"]}
        for gap in batch.get("gaps", [])
    ]
    return readings, gaps


def decode_single(document, name):
    """Returns the reading of a `message` or `json` payload, already parsed, that came on topic `name`."""
    time = document["t"]
    return {
        "gw": None,
        "up": None,
        "ep": int(document["ep"]),
        "n": name,
        "i": int(document["i"]),
        "time_us": int(time) * 1000 if isinstance(time, DatetimeMS) else None,
        "time_text": time if isinstance(time, str) else None,
        "status": int(document.get("q", 0)),
        "until_ms": int(document["until"]) if isinstance(document.get("until"), DatetimeMS) else None,
        "unit": document.get("u"),
        "replayed": False,
        "clock_trusted": True,
        **describe(document["v"]),
    }


def describe(value):
    """Returns type and value in a form that JSON can carry without loss."""
    match value:
        case bool():
            return {"type": "boolean", "value": value}
        case Int64():
            return {"type": "int64", "value": int(value)}
        case int():
            return {"type": "int32", "value": value}
        case float():
            finite = value - value == 0
            return {"type": "double", "value": value if finite else None, "text": repr(value)}
        case str():
            return {"type": "string", "value": value}
        case bytes():
            return {"type": "binary", "value": base64.b64encode(value).decode()}
        case None:
            return {"type": "null", "value": None}
        case Decimal128():
            return {"type": "decimal128", "value": str(value)}
        case DatetimeMS():
            return {"type": "datetime", "value": int(value)}
        case dict():
            return {"type": "document", "value": {name: describe(member)["value"] for name, member in value.items()}}
        case list():
            return {"type": "array", "value": [describe(member)["value"] for member in value]}
    raise EnvelopeError(f"a value of type {type(value).__name__}")


def _columns(stream):
    if "k" not in stream:
        return [int(time) for time in stream["dt"]], stream["x"]
    times = _sums(_varints(stream["dt"]))
    kind, packed = stream["k"], stream["x"]
    match kind:
        case 1:  # decimal-scaled integers
            scale = stream["e"]
            values = [_scaled(number, scale) for number in _sums(_varints(packed))]
        case 2:  # doubles
            values = [value for (value,) in struct.iter_unpack("<d", packed)]
        case 3:  # floats
            values = [value for (value,) in struct.iter_unpack("<f", packed)]
        case 4:  # integers
            values = [Int64(number) for number in _sums(_varints(packed))]
        case 5:  # booleans; bits have no length of their own, the times give it
            if len(packed) != (len(times) + 7) // 8:
                raise EnvelopeError("the bits do not match the times")
            values = [bool(packed[at // 8] >> (at % 8) & 1) for at in range(len(times))]
        case 6 | 7:  # strings, anything
            values = packed
        case _:
            raise EnvelopeError(f"kind {kind!r}")
    return times, values


def _scaled(number, scale):
    # Division by an exact power of ten rounds once, as printing and parsing the decimal would.
    return number / 10**scale if scale >= 0 else float(number * 10**-scale)


def _varints(data):
    """Yields zigzag LEB128 numbers."""
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise EnvelopeError("a number of more than 64 bits")
        if byte < 0x80:
            yield (number >> 1) ^ -(number & 1)
            number = shift = 0
    if shift:
        raise EnvelopeError("a number without an end")


def _sums(differences):
    sum_ = 0
    sums = []
    for difference in differences:
        sum_ += difference
        sums.append(sum_)
    return sums
