"""A stand-in for Azure IoT Hub, and for an IoT Edge before one, as strict as its documents.

From "Communicate with an IoT hub using the MQTT protocol", "Control access to IoT Hub with shared access signatures",
"Understand and invoke direct methods from IoT Hub" and "Reference - IoT Hub quotas and throttling". Two ports: MQTT, and
MQTT in WebSocket frames. `test_azure_iot_hub.py` shows for each check that it catches a client that breaks it.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import re
import ssl
import time
import urllib.parse

import mqtt_wire as wire
from aws_limits import JITTER, Bucket
from cloud import Book
from envelope import decode_batch, decode_single, inflate
from lines import serve, wait_until
from mqtt_service import BAD_LOGIN, IDENTIFIER_REFUSED, NOT_AUTHORIZED, Refusal, Service, port_of, start
from ws_frames import NoWebSocket, upgrade

API_VERSION = "2021-04-12"
MESSAGE_BYTES = 256 * 1024
KEEP_ALIVE_MAX = 1177
FILTERS_MAX = 5
SENDS_PER_SECOND = 100
PATH = "/$iothub/websocket"
# What stands for itself in a property (RFC 3986, section 2.3); `$` only at the beginning of a system property's name.
WORD = re.compile(r"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*")
METHOD_ANSWER = re.compile(r"\$iothub/methods/res/(\d+)/\?\$rid=(.+)")


def read_properties(bag):
    """Returns the properties that a topic carries."""
    properties = {}
    for pair in filter(None, bag.split("&")):
        name, _, value = pair.partition("=")
        if not WORD.fullmatch(name.removeprefix("$")) or not WORD.fullmatch(value):
            raise Refusal("PROPERTIES", f"not encoded: {pair[:60]!r}")
        properties[urllib.parse.unquote(name)] = urllib.parse.unquote(value)
    return properties


def check_token(password, resource, key, now):
    """Checks a token; returns when it ends."""
    kind, _, fields = password.partition(" ")
    fields = dict(field.split("=", 1) for field in fields.split("&") if "=" in field)
    if kind != "SharedAccessSignature" or not {"sr", "sig", "se"} <= fields.keys():
        raise Refusal("LOGIN", "no token")
    if urllib.parse.unquote(fields["sr"]) != resource:
        raise Refusal("LOGIN", f"a token for {fields['sr']!r}")
    signed = f"{fields['sr']}\n{fields['se']}".encode()
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(urllib.parse.unquote(fields["sig"]), signature):
        raise Refusal("LOGIN", "a wrong signature")
    if int(fields["se"]) <= now:
        raise Refusal("LOGIN", "a token that has ended")
    return float(fields["se"])


class Hub(Service):
    """The devices of a hub and what they have sent."""

    path = PATH

    def __init__(self, name, keys, certified):
        super().__init__()
        self.name = name
        self.keys = keys
        self.certified = certified
        self.book = Book()
        self.events = []
        self.largest = 0
        self.rate = SENDS_PER_SECOND
        self.buckets = {}
        self.calls = {}
        self.next_call = 0

    def check_connect(self, connection, connect):
        device = connect.client_id
        if device not in self.keys and device not in self.certified:
            raise Refusal("DEVICE", f"no device {device!r}", IDENTIFIER_REFUSED)
        wanted = f"{self.name}/{device}/?api-version={API_VERSION}"
        if connect.username != wanted:
            raise Refusal("USER_NAME", f"{connect.username!r}, not {wanted!r}", BAD_LOGIN)
        if device in self.certified:
            names = dict(pair for part in (connection.certificate or {}).get("subject", ()) for pair in part)
            if names.get("commonName") != device or connect.password is not None:
                raise Refusal("LOGIN", "not with its certificate alone", NOT_AUTHORIZED)
        else:
            password = (connect.password or b"").decode()
            resource = f"{self.name}/devices/{device}"
            connection.expires = check_token(password, resource, self.keys[device], time.time())
        if connect.keep_alive > KEEP_ALIVE_MAX:
            raise Refusal("KEEP_ALIVE", f"{connect.keep_alive} s are more than a balancer waits")
        if connect.will:
            self._event_properties(device, connect.will[0])
        self.buckets.setdefault(device, Bucket(self.rate, JITTER))

    def _event_properties(self, device, topic):
        prefix = f"devices/{device}/messages/events/"
        if not topic.startswith(prefix):
            raise Refusal("TOPIC", topic[:80])
        return read_properties(topic.removeprefix(prefix))

    async def publish(self, connection, publish, size):
        if not self.buckets[connection.client_id].take(1):
            raise Refusal("THROTTLED", f"more than {self.rate} a second")
        if publish.topic.startswith("$iothub/methods/res/"):
            return self._answer(connection, publish)
        properties = self._event_properties(connection.client_id, publish.topic)
        if size > MESSAGE_BYTES:
            raise Refusal("TOO_LARGE", f"{size} bytes")
        if publish.retain:
            properties["mqtt-retain"] = "true"
        self.largest = max(self.largest, size)
        self.note_published(publish.topic)
        self.events.append({"device": connection.client_id, "properties": properties})
        self._enter(properties, publish.payload)
        return True

    def _answer(self, connection, publish):
        found = METHOD_ANSWER.fullmatch(publish.topic)
        if not found or found[2] not in self.calls:
            raise Refusal("TOPIC", f"no answer: {publish.topic[:80]!r}")
        device, answer = self.calls[found[2]]
        if device == connection.client_id and not answer.done():
            body = json.loads(publish.payload) if publish.payload else None
            answer.set_result({"status": int(found[1]), "payload": body})
        return True

    def _enter(self, properties, payload):
        """Decodes what a consumer would, by what the properties say."""
        if properties.get("kind") == "result":
            self.events[-1]["payload"] = json.loads(payload)
            return
        try:
            kind, encoding = properties.get("$.ct"), properties.get("$.ce")
            data = inflate(payload) if encoding == "zlib" else payload
            if kind == "application/json":
                if encoding != "utf-8":
                    raise ValueError(f"JSON that is called {encoding!r} cannot be looked into")
                self.book.take(decode_single(json.loads(data), properties["topic"]))
            elif kind == "application/bson":
                readings, gaps = decode_batch(data)
                for reading in readings:
                    self.book.take(reading)
                for gap in gaps:
                    self.book.take_gap(gap)
            else:
                raise ValueError(f"a payload of type {kind!r}")
        except Exception as error:  # any failure is a finding of the test
            self.book.malformed.append({"properties": properties, "error": f"{type(error).__name__}: {error}"})

    def subscribe(self, connection, topic_filter, qos):
        device = connection.client_id
        known = {f"devices/{device}/messages/devicebound/#": 1, "$iothub/methods/POST/#": 0}
        if topic_filter not in known:
            raise Refusal("FILTER", topic_filter[:80])
        if len(connection.session.filters) >= FILTERS_MAX:
            raise Refusal("FILTER", f"more than {FILTERS_MAX}")
        return min(qos, known[topic_filter])

    def send(self, device, payload, properties):
        """Sends a message to a device; returns whether it waits for it."""
        bag = urllib.parse.urlencode(properties, quote_via=urllib.parse.quote)
        return self.deliver(f"devices/{device}/messages/devicebound/{bag}", payload.encode()) > 0

    async def invoke(self, device, method, payload, timeout=10.0):
        """Calls a direct method; returns its status and payload."""
        connection = self.connections.get(device)
        if connection is None or "$iothub/methods/POST/#" not in connection.session.filters:
            return {"status": 404, "payload": None}
        self.next_call += 1
        request = f"{self.next_call:x}"
        answer = asyncio.get_running_loop().create_future()
        self.calls[request] = device, answer
        topic = f"$iothub/methods/POST/{method}/?$rid={request}"
        connection.write(wire.publish(topic, payload.encode(), qos=0, version=4))
        return await asyncio.wait_for(answer, timeout)

    def set_key(self, device, key):
        """Gives a device another key, as if its old one had been regenerated; connections that are there stay."""
        self.keys[device] = base64.b64decode(key)

    def report(self):
        return {
            "closed": self.closed,
            "connects": self.connects,
            "goodbyes": self.goodbyes,
            "largest": self.largest,
            "published": len(self.published),
            "results": [event for event in self.events if "payload" in event],
            "topics": sorted({event["properties"].get("topic", "") for event in self.events}),
            "retained": sum("mqtt-retain" in event["properties"] for event in self.events),
        }

    async def wait(self, count, timeout=25.0):
        """Waits until `count` different readings are there, and returns their number."""
        if not await wait_until(lambda: len(self.book.readings) >= count, timeout):
            raise TimeoutError(f"{len(self.book.readings)} of {count}; {self.report()}")
        return len(self.book.readings)


async def accept_frames(service, reader, writer):
    try:
        path, _, reader, writer = await upgrade(reader, writer)
    except NoWebSocket as error:
        raise Refusal("WEBSOCKET", str(error)) from error
    if path.split("?")[0] != service.path:
        raise Refusal("WEBSOCKET", f"path {path!r}")
    return reader, writer


def make_context(ca, cert, key):
    """Returns TLS as the service has it: 1.2 at least, and a certificate of ours if there is any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(ca)
    context.load_cert_chain(cert, key)
    return context


async def main():
    parser = argparse.ArgumentParser()
    for name in ("ca", "cert", "key", "hub"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--device", action="append", default=[], help="ID=KEY in Base64, or ID with a certificate")
    options = parser.parse_args()
    devices = dict(device.split("=", 1) for device in options.device if "=" in device)
    keys = {device: base64.b64decode(key) for device, key in devices.items()}
    hub = Hub(options.hub, keys, {device for device in options.device if "=" not in device})
    context = make_context(options.ca, options.cert, options.key)
    plain = await start(hub, context)
    frames = await start(hub, context, accept_frames)
    requests = {
        "report": hub.report,
        "book": hub.book.report,
        "wait": hub.wait,
        "send": hub.send,
        "invoke": hub.invoke,
        "drop": hub.drop,
        "set_key": hub.set_key,
        "close_next": hub.close_next,
    }
    await serve(requests, port_8883=port_of(plain), port_443=port_of(frames))


if __name__ == "__main__":
    asyncio.run(main())
