"""What a server of Astarte takes from a device, and what it answers by throwing the session away.

Written from the protocol's description alone, with pymongo's BSON: it shares nothing with the gateway.
"""

import datetime
import json
import re
import struct
import zlib
from pathlib import Path

import bson
from bson.int64 import Int64

PAYLOAD_BYTES_MAX = 65_535
ITEMS_MAX = 1_024
BYTES_MAX = 65_536
QOS = {"unreliable": 0, "guaranteed": 1, "unique": 2}


class Violation(Exception):
    """The session is cleared, and the device disconnected; the text is the server's name of the error."""


def violate(name):
    raise Violation(name)


def read_list(payload):
    """Reads a purge list."""
    if payload == b"\0\0\0\0":
        return []
    if len(payload) < 4:
        violate("purge_properties_error")
    (size,) = struct.unpack(">I", payload[:4])
    try:
        text = zlib.decompress(payload[4:]).decode()
    except (zlib.error, UnicodeDecodeError):
        violate("purge_properties_error")
    if len(text) != size:
        violate("purge_properties_error")
    return text.split(";") if text else []


def write_list(entries):
    """Writes a purge list."""
    text = ";".join(entries).encode()
    return struct.pack(">I", len(text)) + zlib.compress(text)


def matches(endpoint, path):
    """Returns whether a path stands for an endpoint."""
    levels, parts = endpoint.split("/")[1:], path.split("/")[1:]
    return len(levels) == len(parts) and all(
        part and not set(part) & set("+#") if level.startswith("%{") else level == part
        for level, part in zip(levels, parts)
    )


def check_scalar(kind, value):
    """Checks one value, by the type that it has in BSON: a bare int was an int32."""
    if kind == "double":
        if type(value) not in (float, int) or value != value or value in (float("inf"), float("-inf")):
            violate("unexpected_value_type")
    elif kind == "integer":
        if type(value) is not int or abs(value) > 0x7FFFFFFF:
            violate("unexpected_value_type")
    elif kind == "longinteger":
        if type(value) not in (int, Int64) or abs(value) > 0x7FFFFFFFFFFFFFFF:
            violate("unexpected_value_type")
    elif type(value) is not {"boolean": bool, "string": str, "binaryblob": bytes, "datetime": datetime.datetime}[kind]:
        violate("unexpected_value_type")
    if kind in ("string", "binaryblob") and len(value if kind == "binaryblob" else value.encode()) > BYTES_MAX:
        violate("value_size_exceeded")


def check_value(kind, value):
    """Checks a value against the type of its mapping."""
    if not kind.endswith("array"):
        return check_scalar(kind, value)
    if not isinstance(value, list):
        violate("unexpected_value_type")
    if len(value) > ITEMS_MAX:
        violate("value_size_exceeded")
    for item in value:
        check_scalar(kind.removesuffix("array"), item)
    return None


class Realm:
    """The interfaces that are installed."""

    def __init__(self, interfaces):
        self.interfaces = {interface["interface_name"]: interface for interface in interfaces}

    @classmethod
    def of_folder(cls, folder):
        return cls([json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))])

    def read_introspection(self, payload):
        """Returns the versions by name."""
        versions = {}
        for entry in payload.decode("ascii", "replace").split(";") if payload else []:
            found = re.fullmatch(r"([A-Za-z0-9.-]+):(\d+):(\d+)", entry)
            if not found:
                violate("invalid_introspection")
            name, major, minor = found[1], int(found[2]), int(found[3])
            interface = self.interfaces.get(name)
            if interface is None or interface["version_major"] != major or interface["version_minor"] < minor:
                violate("interface_loading_failed")
            versions[name] = (major, minor)
        return versions

    def check_data(self, introspection, name, path, payload, qos):
        """Returns what a device has published: `(interface, value, time)`; the value of an unset is `None`."""
        if name not in introspection:
            violate("invalid_interface")
        interface = self.interfaces[name]
        if interface["ownership"] != "device":
            violate("write_on_server_owned_interface")
        is_object = interface.get("aggregation") == "object"
        endpoints = interface["mappings"]
        if is_object:
            found = [it for it in endpoints if matches(it["endpoint"].rsplit("/", 1)[0], path)]
        else:
            found = [it for it in endpoints if matches(it["endpoint"], path)]
        if not found:
            violate("mapping_not_found")
        is_property = interface["type"] == "properties"
        expected = 2 if is_property else QOS[found[0].get("reliability", "unreliable")]
        if qos != expected:
            violate(f"qos {qos} where {expected} is expected")
        if len(payload) > PAYLOAD_BYTES_MAX:
            violate("value_size_exceeded")
        if not payload:
            if not is_property or not found[0].get("allow_unset"):
                violate("unset_not_allowed")
            return interface, None, None
        try:
            document = bson.decode(payload)
        except bson.errors.BSONError:
            violate("undecodable_bson_payload")
        if "v" not in document or set(document) - {"v", "t"}:
            violate("undecodable_bson_payload")
        if "t" in document and (is_property or not isinstance(document["t"], datetime.datetime)):
            violate("undecodable_bson_payload")
        value = document["v"]
        if not is_object:
            check_value(found[0]["type"], value)
            return interface, value, document.get("t")
        if not isinstance(value, dict):
            violate("unexpected_value_type")
        kinds = {it["endpoint"].rsplit("/", 1)[1]: it["type"] for it in found}
        for key, member in value.items():
            if key not in kinds:
                violate("unexpected_object_key")
            check_value(kinds[key], member)
        if any(it.get("required") and it["endpoint"].rsplit("/", 1)[1] not in value for it in found):
            violate("missing_required_mapping")
        return interface, value, document.get("t")
