"""Reads what an uplink of Tidegate publishes: formats `columns`, `packed`, `message` and `json`.

Standard library only, Python 3.8 or later, one file. The formats are those of
docs/telemetry-envelope.md. A payload is not trusted: what it may inflate to, how deep it may go and how
many elements it may have is limited before anything is built from it.

    import tidegate_decoder

    for reading in tidegate_decoder.decode(payload, content_encoding="zlib"):
        print(reading.stream, reading.time, reading.value)
"""

import binascii
import datetime
import json
import re
import struct
import zlib
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

__all__ = ["Batch", "DecodeError", "Gap", "Limits", "Reading", "decode", "decode_batch"]


class DecodeError(ValueError):
    """A payload cannot be read. The text says why."""


class Limits(NamedTuple):
    """What a payload may be at most."""

    wire: int = 16 << 20
    """Bytes as received."""
    inflated: int = 64 << 20
    """Bytes after decompression."""
    ratio: int = 1032
    """How many times more bytes there may be after decompression than before."""
    depth: int = 64
    """How many documents and arrays may stand inside each other."""
    elements: int = 1 << 20
    """Elements of all documents and arrays, and packed readings, together."""


class Reading(NamedTuple):
    """One reading. The same `key` always carries the same reading: use it to drop repetitions."""

    gateway: Optional[str]
    """The id of the gateway; None in the formats `message` and `json`."""
    uplink: Optional[str]
    """The name of the uplink; None in the formats `message` and `json`."""
    epoch: int
    stream: Optional[str]
    """The local topic; in the formats `message` and `json` the topic that was handed in."""
    number: int
    """Counted up by one in each stream of an epoch."""
    time_us: int
    """Microseconds since 1970, UTC."""
    value: Any
    """None, bool, int, float, str, bytes, list or dict."""
    unit: Optional[str]
    status: int
    """The OPC UA status code; 0 is good."""
    until_us: Optional[int]
    """When a stretch without data ended that began at `time_us`, in microseconds since 1970."""
    replayed: bool
    """Whether the reading waited for an outage to end."""
    clock_trusted: bool
    """Whether the gateway's clock was set when it stamped the reading."""

    @property
    def key(self) -> Tuple[Optional[str], Optional[str], int, Optional[str], int]:
        return (self.gateway, self.uplink, self.epoch, self.stream, self.number)

    @property
    def time(self) -> datetime.datetime:
        """The time as a datetime. OverflowError outside of the years 1 to 9999."""
        return _EPOCH + datetime.timedelta(microseconds=self.time_us)

    @property
    def quality(self) -> str:
        return ("good", "uncertain", "bad", "bad")[self.status >> 30]


class Gap(NamedTuple):
    """Numbers of a stream that will never come."""

    stream: str
    first: int
    last: int
    why: str


class Batch(NamedTuple):
    """Everything one payload says."""

    gateway: Optional[str]
    uplink: Optional[str]
    epoch: int
    seq: Optional[int]
    clock_trusted: bool
    readings: List[Reading]
    gaps: List[Gap]


def decode(
    payload: bytes,
    content_encoding: Optional[str] = None,
    topic: Optional[str] = None,
    limits: Limits = Limits(),
) -> Iterator[Reading]:
    """Returns an iterator over the readings of `payload`. Raises DecodeError before the first one.

    `content_encoding` is what the MQTT 5 user property says: "zlib", "gzip", or None where there is none.
    Without it, a level `bson.z`, `bson.gz`, `json.z` or `json.gz` of `topic` says the same. "auto" goes by
    the first bytes, for receivers that are told nothing.
    """
    return iter(decode_batch(payload, content_encoding, topic, limits).readings)


def decode_batch(
    payload: bytes,
    content_encoding: Optional[str] = None,
    topic: Optional[str] = None,
    limits: Limits = Limits(),
) -> Batch:
    """Returns all that `payload` says, gaps too. Raises DecodeError."""
    payload = bytes(payload)
    if len(payload) > limits.wire:
        raise DecodeError(f"is {len(payload)} bytes long, at most {limits.wire} are allowed")
    encoding = content_encoding
    if encoding is None and topic is not None:
        levels = (_LEVELS.get(level) for level in topic.split("/"))
        encoding = next((found for found in levels if found), None)
    if encoding == "auto":
        encoding = None if _looks_like_bson(payload) else _wrapping(payload)
    if encoding in ("zlib", "gzip"):
        plain = _inflate(payload, encoding, limits)
    elif encoding in (None, "identity"):
        plain = payload
    else:
        raise DecodeError(f"has the unknown encoding {encoding!r}")
    if plain.lstrip(b"\t\n\x0c\r ")[:1] == b"{" and not _looks_like_bson(plain):
        return _json_row(plain, topic, limits)
    reader = _Bson(plain, limits)
    document = reader.document()
    has_streams = any(name == "s" for name, _ in document)
    if not document or not (_is_int(document[0][1]) and document[0][1] == 1 and has_streams):
        return _bson_row(document, topic)
    return _columns(document, limits.elements - reader.elements)


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_LEVELS = {
    "bson": "identity",
    "json": "identity",
    "bson.z": "zlib",
    "json.z": "zlib",
    "bson.gz": "gzip",
    "json.gz": "gzip",
}


def _looks_like_bson(payload: bytes) -> bool:
    return len(payload) >= 4 and int.from_bytes(payload[:4], "little") == len(payload)


def _wrapping(payload: bytes) -> Optional[str]:
    if payload[:3] == b"\x1f\x8b\x08":
        return "gzip"
    if len(payload) >= 2 and payload[0] & 15 == 8 and (payload[0] << 8 | payload[1]) % 31 == 0:
        return "zlib"
    return None


def _inflate(payload: bytes, encoding: str, limits: Limits) -> bytes:
    most = min(limits.inflated, len(payload) * limits.ratio)
    stream = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        plain = stream.decompress(payload, most + 1)
    except zlib.error as error:
        raise DecodeError(f"is not a {encoding} stream: {error}") from None
    if len(plain) > most:
        if most == limits.inflated:
            raise DecodeError(f"inflates to more than {limits.inflated} bytes")
        raise DecodeError(f"inflates to more than {limits.ratio} times its size")
    if not stream.eof:
        raise DecodeError(f"is not a {encoding} stream: it ends too early")
    if stream.unused_data:
        raise DecodeError(f"is not a {encoding} stream: something follows its end")
    return plain


class _Document(list):
    """The members of a BSON document as pairs, in order."""


class _Datetime(int):
    """Milliseconds since 1970."""


class _Unsupported:
    """A value that may stand where nobody looks."""


_DECIMAL128_EXPONENT_0 = 6176 << 49


class _Bson:
    """A reader of one BSON document that trusts no length."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.limits = limits
        self.elements = 0

    def document(self) -> _Document:
        if len(self.data) < 5 or not _looks_like_bson(self.data):
            raise DecodeError("is not BSON: its length is wrong")
        document, _ = self._members(0, len(self.data), 1)
        return document

    def _members(self, at: int, limit: int, depth: int) -> Tuple[_Document, int]:
        if depth > self.limits.depth:
            raise DecodeError(f"has more than {self.limits.depth} levels")
        start = at
        if limit - at < 5:
            raise self._malformed(at)
        (length,) = _INT32.unpack_from(self.data, at)
        end = start + length
        if length < 5 or end > limit or self.data[end - 1] != 0:
            raise self._malformed(at)
        at, end = at + 4, end - 1
        members = _Document()
        while at < end:
            self.elements += 1
            if self.elements > self.limits.elements:
                raise DecodeError(f"has more than {self.limits.elements} elements")
            kind = self.data[at]
            stop = self.data.find(b"\0", at + 1, end)
            if stop < 0:
                raise self._malformed(at)
            name = self._text(at + 1, stop)
            value, at = self._value(kind, stop + 1, end, depth)
            members.append((name, value))
        return members, end + 1

    def _value(self, kind: int, at: int, end: int, depth: int) -> Tuple[Any, int]:
        data = self.data
        size = _SIZES.get(kind)
        if size is not None:
            if end - at < size:
                raise self._malformed(at)
            if kind == 0x01:
                return _DOUBLE.unpack_from(data, at)[0], at + 8
            if kind == 0x10:
                return _INT32.unpack_from(data, at)[0], at + 4
            if kind == 0x12:
                return _INT64.unpack_from(data, at)[0], at + 8
            if kind == 0x09:
                return _Datetime(_INT64.unpack_from(data, at)[0]), at + 8
            if kind == 0x0A:
                return None, at
            if kind == 0x08:
                if data[at] > 1:
                    raise self._malformed(at)
                return data[at] == 1, at + 1
            low, high = struct.unpack_from("<QQ", data, at)
            return low if high == _DECIMAL128_EXPONENT_0 else _Unsupported(), at + 16
        if kind in (0x03, 0x04):
            members, after = self._members(at, end, depth + 1)
            return (members if kind == 0x03 else [value for _, value in members]), after
        if kind not in (0x02, 0x05):
            raise DecodeError(f"has an element of BSON type 0x{kind:02x}, which is not supported")
        if end - at < 4:
            raise self._malformed(at)
        (length,) = _INT32.unpack_from(data, at)
        if kind == 0x02:
            start, stop = at + 4, at + 4 + length
            if length < 1 or stop > end or data[stop - 1] != 0:
                raise self._malformed(at)
            return self._text(start, stop - 1), stop
        start, stop = at + 5, at + 5 + length
        if length < 0 or stop > end:
            raise self._malformed(at)
        return data[start:stop], stop

    def _text(self, start: int, stop: int) -> str:
        try:
            return self.data[start:stop].decode()
        except UnicodeDecodeError:
            raise self._malformed(start) from None

    def _malformed(self, at: int) -> DecodeError:
        return DecodeError(f"is not BSON: malformed at byte {at}")


_INT32 = struct.Struct("<i")
_INT64 = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_SIZES = {0x01: 8, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x12: 8, 0x13: 16}


def _is_int(value: Any) -> bool:
    return type(value) is int


def _value(value: Any) -> Any:
    """Turns what BSON holds into what a reading holds."""
    if isinstance(value, _Document):
        document = {name: _value(member) for name, member in value}
        if len(document) != len(value):
            raise DecodeError("has a name twice in one document")
        return document
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, _Datetime):
        return _rfc3339(_micros(value))
    if isinstance(value, _Unsupported):
        raise DecodeError("has a decimal128 that is not an integer")
    return value


def _clamp(number: int) -> int:
    return max(-(1 << 63), min((1 << 63) - 1, number))


def _wrap(number: int) -> int:
    return (number + (1 << 63) & (1 << 64) - 1) - (1 << 63)


def _micros(millis: int) -> int:
    return _clamp(millis * 1000)


def _rfc3339(micros: int) -> str:
    micros = max(-62_167_219_200_000_000, min(253_402_300_799_999_999, micros))
    days, rest = divmod(micros, 86_400_000_000)
    # The year 0, which datetime lacks, is a leap year like the year 400.
    year = 0
    if days < -719_162:
        days, year = days + 146_097, -400
    date = datetime.date.fromordinal(days + 719_163)
    seconds, fraction = divmod(rest, 1_000_000)
    digits = f"{fraction // 1000:03}" if fraction % 1000 == 0 else f"{fraction:06}"
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{date.year + year:04}-{date.month:02}-{date.day:02}T{clock}.{digits}Z"


def _columns(document: _Document, budget: int) -> Batch:
    gateway = uplink = seq = streams = None
    epoch, base, in_micros, clock_trusted = 0, 0, False, True
    gaps: List[Gap] = []
    for name, member in document:
        if name == "v":
            if not _is_int(member) or member != 1:
                raise DecodeError("is not version 1 of the envelope")
        elif name == "tu":
            if not _is_int(member) or member not in (0, 3):
                raise DecodeError("the unit of time `tu` is not known")
            in_micros = member == 3
        elif name == "gw" and isinstance(member, str):
            gateway = member
        elif name == "up" and isinstance(member, str):
            uplink = member
        elif name == "ep" and _is_int(member):
            epoch = member
        elif name == "seq" and _is_int(member):
            seq = member
        elif name == "t0" and isinstance(member, _Datetime):
            base = _micros(member)
        elif name == "ct" and isinstance(member, bool):
            clock_trusted = member
        elif name == "s" and type(member) is list:
            streams = member
        elif name == "gaps" and type(member) is list:
            gaps = [_gap(gap) for gap in member]
    if streams is None:
        raise DecodeError("has no streams `s`")
    readings: List[Reading] = []
    for stream in streams:
        if not isinstance(stream, _Document):
            raise DecodeError("a stream in `s` is not a document")
        name, unit, first, replayed, times, values, statuses = _stream(stream, budget)
        if any(member == "dt" and isinstance(value, bytes) for member, value in stream):
            budget -= len(times)
        for index, (after, value) in enumerate(zip(times, values)):
            if in_micros:
                time = _wrap(base + after)
            else:
                time = _clamp(base + _micros(after))
            status, until = statuses.get(index, (0, None))
            readings.append(
                Reading(
                    gateway, uplink, epoch, name, first + index, time, _value(value), unit,
                    status, until, replayed, clock_trusted,
                )
            )
    return Batch(gateway, uplink, epoch, seq, clock_trusted, readings, gaps)


def _stream(stream: _Document, budget: int) -> Tuple:
    name = unit = first = kind = None
    times = values = statuses = None
    has_times = has_values = False
    replayed, exponent = False, 0
    for member, value in stream:
        if member == "n" and isinstance(value, str):
            name = value
        elif member == "u" and isinstance(value, str):
            unit = value
        elif member == "i" and _is_int(value):
            first = value
        elif member == "dt":
            times, has_times = value, True
        elif member == "x":
            values, has_values = value, True
        elif member == "k" and _is_int(value):
            kind = value
        elif member == "e" and _is_int(value):
            exponent = value
        elif member == "q" and type(value) is list:
            statuses = value
        elif member == "r" and isinstance(value, bool):
            replayed = value
    for found, missing in ((name, "n"), (first, "i"), (has_times or None, "dt"), (has_values or None, "x")):
        if found is None:
            raise DecodeError(f"a stream has no `{missing}`")
    if isinstance(times, bytes):
        times = _differences(times, "dt", budget)
    elif type(times) is list:
        if not all(_is_int(time) for time in times):
            raise DecodeError("a time in `dt` is not an integer")
    else:
        raise DecodeError("a stream has no `dt`")
    if kind is not None:
        values = _unpack(kind, exponent, len(times), values)
    elif type(values) is not list:
        raise DecodeError("a stream has no `x`")
    if len(times) != len(values):
        raise DecodeError("a stream has not as many times as values")
    if first + len(times) >= 1 << 63:
        raise DecodeError("the number `i` of a stream is too large")
    return name, unit, first, replayed, times, values, _statuses(statuses or [], len(times))


def _statuses(statuses: List, readings: int) -> dict:
    found: dict = {}
    for status in statuses:
        if not isinstance(status, _Document):
            raise DecodeError("a status in `q` is wrong")
        at, code, until = (_first(status, name) for name in ("at", "status", "until"))
        if not (_is_int(at) and _is_int(code) and 0 <= at < readings and 0 <= code < 1 << 32):
            raise DecodeError("a status in `q` is wrong")
        before = found.get(at, (0, None))[1]
        found[at] = (code, _micros(until) if isinstance(until, _Datetime) else before)
    return found


def _gap(gap: Any) -> Gap:
    if isinstance(gap, _Document):
        name, first, last, why = (_first(gap, member) for member in ("n", "from", "to", "why"))
        if isinstance(name, str) and _is_int(first) and _is_int(last) and isinstance(why, str):
            return Gap(name, first, last, why)
    raise DecodeError("a gap in `gaps` is wrong")


def _first(document: _Document, name: str) -> Any:
    return next((value for member, value in document if member == name), None)


def _differences(data: bytes, name: str, most: int) -> List[int]:
    """Undoes zigzag LEB128 differences, modulo 2^64."""
    numbers: List[int] = []
    number = shift = last = 0
    for byte in data:
        if shift == 63 and byte > 1:
            raise DecodeError(f"the numbers in `{name}` are broken off")
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if len(numbers) >= most:
                raise DecodeError("has more readings than are allowed")
            last = _wrap(last + (number >> 1 ^ -(number & 1)))
            numbers.append(last)
            number = shift = 0
        else:
            shift += 7
    if shift:
        raise DecodeError(f"the numbers in `{name}` are broken off")
    return numbers


def _unpack(kind: int, exponent: int, count: int, values: Any) -> List:
    if kind in (6, 7) and type(values) is list:
        if kind == 6 and not all(isinstance(value, str) for value in values):
            raise DecodeError("a value in `x` is not a string")
        return values
    if kind not in range(1, 9):
        raise DecodeError(f"a stream is packed as kind {kind}, not known here")
    if not isinstance(values, bytes):
        raise DecodeError("the values `x` of a stream are not what `k` says")
    if kind in (1, 4, 8):
        if kind != 4 and not 0 <= exponent <= 22:
            raise DecodeError("an exponent `e` is out of range")
        integers = _differences(values, "x", count)
        if kind == 4:
            return integers
        power = float(10**exponent)
        doubles = [float(integer) / power for integer in integers]
        if kind == 1:
            return doubles
        return [_single(double) for double in doubles]
    if kind == 5:
        if len(values) != (count + 7) // 8:
            raise DecodeError("a stream has not as many times as values")
        return [values[at >> 3] >> (at & 7) & 1 == 1 for at in range(count)]
    code, size = ("d", 8) if kind == 2 else ("f", 4)
    if len(values) != count * size:
        raise DecodeError("a stream has not as many times as values")
    return list(struct.unpack(f"<{count}{code}", values))


def _single(double: float) -> float:
    """Rounds to single precision."""
    try:
        return struct.unpack("<f", struct.pack("<f", double))[0]
    except OverflowError:
        return float("inf") if double > 0 else float("-inf")


def _finish_row(row: dict, topic: Optional[str]) -> Batch:
    for name in ("i", "t", "v"):
        if name not in row:
            raise DecodeError(f"has no `{name}`")
    epoch, clock_trusted = row.get("ep", 0), row.get("ct", True)
    reading = Reading(
        None, None, epoch, topic, row["i"], row["t"], row["v"], row.get("u"), row.get("q", 0),
        row.get("until"), False, clock_trusted,
    )
    return Batch(None, None, epoch, None, clock_trusted, [reading], [])


def _status_code(code: int) -> int:
    if not 0 <= code < 1 << 32:
        raise DecodeError("the status `q` is wrong")
    return code


def _bson_row(document: _Document, topic: Optional[str]) -> Batch:
    row: dict = {}
    for name, member in document:
        if name == "v":
            row[name] = _value(member)
        elif name in ("t", "until") and isinstance(member, _Datetime):
            row[name] = _micros(member)
        elif name == "u" and isinstance(member, str):
            row[name] = member
        elif name == "q" and _is_int(member):
            row[name] = _status_code(member)
        elif name in ("ep", "i") and _is_int(member):
            row[name] = member
        elif name == "ct" and isinstance(member, bool):
            row[name] = member
    return _finish_row(row, topic)


_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))\Z"
)


def _json_row(plain: bytes, topic: Optional[str], limits: Limits) -> Batch:
    depth = 0
    for token in _STRUCTURE.finditer(plain):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token.group(), 0)
        if depth > limits.depth:
            raise DecodeError(f"has more than {limits.depth} levels")
    try:
        document = json.loads(
            plain.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_float,
        )
        # A lone surrogate is no text.
        json.dumps(document, ensure_ascii=False).encode()
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"is not JSON: {error}") from None
    row: dict = {}
    for name, member in document.items():
        if name == "v":
            row[name] = member
        elif name in ("t", "until") and isinstance(member, str):
            row[name] = _parse_time(member)
        elif name == "u" and isinstance(member, str):
            row[name] = member
        elif name == "q" and _is_int(member):
            row[name] = _status_code(member)
        elif name in ("ep", "i") and _is_int(member) and -(1 << 63) <= member < 1 << 63:
            row[name] = member
        elif name == "ct" and isinstance(member, bool):
            row[name] = member
    if document.get("encoding") == "base64" and isinstance(row.get("v"), str):
        row["v"] = _base64(row["v"])
    return _finish_row(row, topic)


def _unique(pairs: List[Tuple[str, Any]]) -> dict:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise DecodeError("has a name twice in one document")
    return document


def _float(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise DecodeError("is not JSON: a number is out of range")
    return number


def _integer(text: str) -> Any:
    number = int(text) if len(text) <= 20 else None
    if text != "-0" and number is not None and -(1 << 63) <= number < 1 << 64:
        return number
    return _float(text)


def _no_constant(name: str) -> Any:
    raise DecodeError(f"is not JSON: {name} is no number")


def _base64(text: str) -> bytes:
    try:
        data = binascii.a2b_base64(text.encode("ascii"))
        if binascii.b2a_base64(data, newline=False).decode() == text:
            return data
    except ValueError:
        pass
    raise DecodeError("the value `v` is not base64")


def _parse_time(text: str) -> int:
    found = _TIME.match(text)
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
        # Year 0 is moved by 400 years, which have always the same number of days.
        moved = year == 0
        days = datetime.date(year + (400 if moved else 0), month, day).toordinal() - 719_163
        days -= 146_097 if moved else 0
        if hour > 23 or minute > 59 or second > 59:
            raise ValueError
        seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
        if found.group(8):
            hours, minutes = int(found.group(9)), int(found.group(10))
            if hours > 23 or minutes > 59:
                raise ValueError
            offset = hours * 3_600 + minutes * 60
            seconds += offset if found.group(8) == "-" else -offset
        fraction = (found.group(7) or "").ljust(6, "0")[:6]
        return seconds * 1_000_000 + int(fraction)
    except ValueError:
        raise DecodeError(f"`{text[:64]}` is not a time like 2026-03-01T12:00:00.123Z") from None
