"""The stand-in for Azure IoT Hub must catch every client that breaks a rule, and let one pass that breaks none (uplink.24)."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import unittest
import urllib.parse

import mqtt_wire as wire
from azure_iot_hub import Hub, accept_frames, check_token, read_properties
from mqtt_service import Refusal, port_of, start
from service_client import Client

NAME = "contoso.azure-devices.net"
KEY = b"0123456789abcdef0123456789abcdef"
EVENTS = "devices/gw-1/messages/events/"
USER = f"{NAME}/gw-1/?api-version=2021-04-12"
JSON = "$.ct=application%2Fjson&$.ce=utf-8"


def token(resource=f"{NAME}/devices/gw-1", key=KEY, lifetime=3600):
    encoded, expires = urllib.parse.quote(resource, safe=""), int(time.time() + lifetime)
    signature = base64.b64encode(hmac.new(key, f"{encoded}\n{expires}".encode(), hashlib.sha256).digest())
    return f"SharedAccessSignature sr={encoded}&sig={urllib.parse.quote(signature, safe='')}&se={expires}".encode()


class Rejecting(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.hub = Hub(NAME, {"gw-1": KEY, "gw-2": KEY}, {"gw-3"})
        self.servers = [await start(self.hub), await start(self.hub, None, accept_frames)]
        self.clients = []

    async def asyncTearDown(self):
        for each in self.clients + self.servers:
            each.close()

    async def open(self):
        self.clients.append(await Client.open(port_of(self.servers[0])))
        return self.clients[-1]

    async def connect(self, client_id="gw-1", code=0, **more):
        values = {"username": USER, "password": token(), "version": 4, **more}
        client = await self.open()
        client.send(wire.connect(client_id, **values))
        self.assertEqual((await client.expect(wire.CONNACK))[1], code, self.hub.closed)
        return client

    def publish(self, client, topic=EVENTS + JSON, payload=b"1", packet_id=1, **more):
        client.publish(topic, payload, packet_id, **more)

    def assert_closed(self, reason, detail=""):
        found = self.hub.closed.pop()
        self.assertEqual(found[0], reason)
        self.assertIn(detail, found[1])
        self.assertEqual(self.hub.closed, [])

    async def test_a_right_client_passes(self):
        client = await self.connect(clean=False)
        client.send(wire.subscribe(["devices/gw-1/messages/devicebound/#"], version=4))
        self.assertEqual((await client.expect(wire.SUBACK))[2:], bytes([1]))
        client.send(wire.subscribe(["$iothub/methods/POST/#"], version=4))
        self.assertEqual((await client.expect(wire.SUBACK))[2:], bytes([0]))
        self.publish(client, EVENTS + JSON + "&topic=a%2Fb")
        await client.expect(wire.PUBACK)
        self.assertTrue(self.hub.send("gw-1", "x", {"topic": "a/b"}))
        message = wire.read_publish(2, await client.expect(wire.PUBLISH), 4)
        self.assertIn("devicebound/topic=a%2Fb", message.topic)
        client.send(wire.packet(wire.PUBACK, 0, message.packet_id.to_bytes(2, "big")))
        answer = asyncio.create_task(self.hub.invoke("gw-1", "set", "{}"))
        topic = wire.read_publish(0, await client.expect(wire.PUBLISH), 4).topic
        client.publish("$iothub/methods/res/202/?" + topic.partition("?")[2], b'{"a":1}', 2)
        self.assertEqual(await answer, {"status": 202, "payload": {"a": 1}})
        client.send(wire.packet(wire.DISCONNECT, 0, b""))
        await client.ended()
        self.assertEqual(self.hub.closed, [])
        self.assertEqual(len(self.hub.goodbyes), 1)
        self.assertEqual(self.hub.events[0]["properties"]["topic"], "a/b")
        # A session waits for its device.
        self.assertTrue(self.hub.send("gw-1", "later", {}))
        client = await self.connect(clean=False)
        self.assertIn(b"later", await client.expect(wire.PUBLISH))

    async def test_logins(self):
        cases = [
            ({"version": 5}, 1, "PROTOCOL", "5"),
            ({"client_id": "gw-9"}, 2, "DEVICE", "gw-9"),
            ({"username": f"{NAME}/gw-1"}, 4, "USER_NAME", "gw-1"),
            ({"username": USER.replace(NAME, "localhost")}, 4, "USER_NAME", "localhost"),
            ({"username": USER.replace("gw-1", "gw-2")}, 4, "USER_NAME", "gw-2"),
            ({"password": None}, 5, "LOGIN", "no token"),
            ({"password": token(key=b"x")}, 5, "LOGIN", "a wrong signature"),
            ({"password": token(resource=f"{NAME}/devices/gw-2")}, 5, "LOGIN", "a token for"),
            ({"password": token(lifetime=-1)}, 5, "LOGIN", "has ended"),
            ({"keep_alive": 1178}, 5, "KEEP_ALIVE", "1178"),
            ({"will": ("gw-1/gone", b"", 1, False)}, 5, "TOPIC", "gone"),
            ({"client_id": "gw-3", "username": USER.replace("gw-1", "gw-3")}, 5, "LOGIN", "certificate"),
        ]
        for more, code, reason, detail in cases:
            with self.subTest(detail=detail):
                client = await self.open()
                values = {"client_id": "gw-1", "username": USER, "password": token(), "version": 4, **more}
                client.send(wire.connect(values.pop("client_id"), **values))
                self.assertEqual((await client.expect(wire.CONNACK))[1], code)
                await client.ended()
                self.assert_closed(reason, detail)

    async def test_a_token_ends(self):
        client = await self.connect(password=token(lifetime=2))
        await client.ended()
        self.assert_closed("LOGIN_EXPIRED")

    async def test_one_connection_is_all_a_device_has(self):
        first = await self.connect()
        await self.connect()
        await first.ended()
        self.assert_closed("TAKEN_OVER")

    async def test_publications(self):
        cases = [
            ({"topic": "tidegate/gw-1"}, "TOPIC"),
            ({"topic": "devices/gw-2/messages/events/"}, "TOPIC"),
            ({"topic": "$iothub/methods/res/200/?$rid=77"}, "TOPIC"),
            ({"topic": "$iothub/methods/res/ok/?$rid=1"}, "TOPIC"),
            ({"topic": EVENTS + "topic=a/b"}, "PROPERTIES"),
            ({"topic": EVENTS + "a b=1"}, "PROPERTIES"),
            ({"topic": EVENTS + "a=%2"}, "PROPERTIES"),
            ({"qos": 2}, "QOS"),
            ({"payload": bytes(256 * 1024)}, "TOO_LARGE"),
        ]
        for more, reason in cases:
            with self.subTest(more=str(more)[:60]):
                client = await self.connect()
                self.publish(client, **more)
                await client.ended()
                self.assert_closed(reason)
                self.assertEqual(self.hub.events, [])

    async def test_what_cannot_be_read_is_told(self):
        client = await self.connect()
        for packet_id, bag in enumerate(["", "$.ct=application%2Fjson", "$.ct=application%2Fbson", JSON], 1):
            client.publish(EVENTS + bag, b"?", packet_id)
            await client.expect(wire.PUBACK)
        self.assertEqual(len(self.hub.book.malformed), 4)
        self.publish(client, EVENTS + "$.ct=x", packet_id=9, retain=True)
        await client.expect(wire.PUBACK)
        self.assertEqual(self.hub.report()["retained"], 1)

    async def test_what_comes_too_fast_ends_the_connection(self):
        self.hub.rate = 1
        client = await self.connect()
        for packet_id in range(1, 500):
            self.publish(client, packet_id=packet_id)
        await client.ended()
        self.assert_closed("THROTTLED")

    async def test_subscriptions(self):
        for topic_filter in ["#", "devices/gw-2/messages/devicebound/#", "devices/gw-1/messages/devicebound/a"]:
            client = await self.connect()
            client.send(wire.subscribe([topic_filter], version=4))
            await client.ended()
            self.assert_closed("FILTER")

    async def test_who_does_not_wait_or_is_silent_is_closed(self):
        client = await self.open()
        client.send(wire.connect("gw-1", version=4, username=USER, password=token()) + wire.packet(wire.PINGREQ, 0, b""))
        await client.ended()
        self.assert_closed("EARLY")
        self.hub.patience = 0.1
        client = await self.connect(keep_alive=1)
        await client.ended()
        self.assert_closed("KEEP_ALIVE")

    async def test_frames_have_their_path(self):
        for path, protocol, detail in [("/mqtt", "mqtt", "/mqtt"), ("/$iothub/websocket", "AMQPWSB10", "AMQP")]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(self.servers[1]))
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: AAAA\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
            )
            await asyncio.wait_for(reader.read(), 5.0)
            writer.close()
            self.assert_closed("WEBSOCKET", detail)


class Rules(unittest.TestCase):
    def test_properties(self):
        found = read_properties("$.ct=application%2Fjson&empty=&null&a%20b=%C3%BC")
        self.assertEqual(found, {"$.ct": "application/json", "empty": "", "null": "", "a b": "ü"})

    def test_tokens_are_those_of_the_documents(self):
        self.assertGreater(check_token(token().decode(), f"{NAME}/devices/gw-1", KEY, time.time()), time.time())
        with self.assertRaises(Refusal):
            check_token(json.dumps("x"), f"{NAME}/devices/gw-1", KEY, 0)


if __name__ == "__main__":
    unittest.main()
