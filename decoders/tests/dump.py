"""Prints what the decoder makes of payloads, for comparison with the others: see dump.md beside this file."""

import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
sys.dont_write_bytecode = True

import tidegate_decoder as decoder


def text(value):
    return "-" if value is None else "=" + value.encode().hex()


def number(value):
    return "-" if value is None else str(value)


def show(value):
    if value is None:
        return "n"
    if value is True or value is False:
        return "t" if value else "f"
    if isinstance(value, int):
        return f"i{value}"
    if isinstance(value, float):
        return "dnan" if value != value else "d" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "s" + value.encode().hex()
    if isinstance(value, bytes):
        return "b" + value.hex()
    if isinstance(value, list):
        return "[" + ",".join(map(show, value)) + "]"
    members = sorted((name.encode().hex(), show(member)) for name, member in value.items())
    return "{" + ",".join(f"{name}:{member}" for name, member in members) + "}"


def dump(line):
    encoding, topic, wire, inflated, ratio, depth, elements, payload = line.split(" ")
    limits = decoder.Limits(*map(int, (wire, inflated, ratio, depth, elements)))
    encoding = None if encoding == "-" else encoding
    topic = None if topic == "-" else topic
    try:
        batch = decoder.decode_batch(bytes.fromhex(payload), encoding, topic, limits)
    except decoder.DecodeError as error:
        return f"! {error}".replace("\n", " ")
    trusted = int(batch.clock_trusted)
    parts = [f"B {text(batch.gateway)} {text(batch.uplink)} {batch.epoch} {number(batch.seq)} {trusted}"]
    for reading in batch.readings:
        parts.append(
            f"R {text(reading.stream)} {reading.number} {reading.time_us} {number(reading.until_us)} "
            f"{text(reading.unit)} {reading.status} {int(reading.replayed)} {show(reading.value)}"
        )
    for gap in batch.gaps:
        parts.append(f"G {text(gap.stream)} {gap.first} {gap.last} {text(gap.why)}")
    return ";".join(parts)


lines = sys.stdin.read().split("\n")
print("\n".join(dump(line) for line in lines if line))
