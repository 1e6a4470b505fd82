"""The stand-in for ThingsBoard must catch every client that breaks a rule, and let one pass that breaks none (uplink.24)."""

import asyncio
import json
import unittest

import mqtt_wire as wire
from mqtt_service import port_of, start
from service_client import Client
from thingsboard import Board, parse

TELEMETRY, ATTRIBUTES, CONNECT = (f"v1/gateway/{name}" for name in ("telemetry", "attributes", "connect"))
ROW = {"ts": 1, "values": {"t": 1}}


class Rejecting(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.board = Board("A1")
        self.server = await start(self.board)
        self.clients = []

    async def asyncTearDown(self):
        for client in self.clients:
            client.close()
        self.server.close()

    async def connect(self, code=0, **more):
        client = await Client.open(port_of(self.server))
        self.clients.append(client)
        client.send(wire.connect("gw", **{"username": "A1", "version": 4, **more}))
        self.assertEqual((await client.expect(wire.CONNACK))[1], code)
        return client

    async def connected(self):
        client = await self.connect()
        await self.say(client, CONNECT, {"device": "Press 7", "type": "press"})
        return client

    async def say(self, client, topic, document):
        client.send(wire.publish(topic, json.dumps(document).encode(), 1, version=4))
        await client.expect(wire.PUBACK)

    def assert_closed(self, reason):
        self.assertEqual(self.board.closed.pop()[0], reason)
        self.assertEqual(self.board.closed, [])

    async def test_a_right_client_passes(self):
        client = await self.connected()
        await self.say(client, TELEMETRY, {"Press 7": [ROW]})
        await self.say(client, ATTRIBUTES, {"Press 7": {"serial": "a"}})
        await self.say(client, "v1/devices/me/telemetry", [ROW])
        client.send(wire.subscribe(["v1/gateway/rpc", "v1/devices/me/rpc/request/+"], version=4))
        await client.expect(wire.SUBACK)
        for device, topic in [("Press 7", "v1/gateway/rpc"), ("me", "v1/devices/me/rpc/response/2")]:
            answer = asyncio.create_task(self.board.call(device, "a", 1))
            message = wire.read_publish(2, await client.expect(wire.PUBLISH), 4)
            client.send(wire.packet(wire.PUBACK, 0, message.packet_id.to_bytes(2, "big")))
            data = {"ok": True}
            await self.say(client, topic, data if device == "me" else {"device": device, "id": 1, "data": data})
            self.assertEqual(await answer, data)
        self.assertIsNone(await self.board.call("Press 8", "a", 1))
        self.assertEqual(self.board.series, {"Press 7": {"t": [[1, 1]]}, "me": {"t": [[1, 1]]}})
        self.assertEqual((self.board.rows, self.board.closed), (3, []))

    async def test_logins(self):
        for more in [{"username": "A2"}, {"username": None}, {"password": b"x"}]:
            client = await self.connect(4, **more)
            await client.ended()
            self.assert_closed("LOGIN")

    async def test_publications(self):
        cases = [
            (TELEMETRY, b"", "PAYLOAD"),
            (TELEMETRY, b"{", "PAYLOAD"),
            (TELEMETRY, b"{}", "PAYLOAD"),
            (TELEMETRY, b'{"Press 7":[],"Press 7":[]}', "PAYLOAD"),
            (TELEMETRY, b'{"Press 7":[{"ts":1,"values":{"t":NaN}}]}', "PAYLOAD"),
            (TELEMETRY, {"Press 7": []}, "PAYLOAD"),
            (TELEMETRY, {"Press 7": [{"values": {"t": 1}}]}, "PAYLOAD"),
            (TELEMETRY, {"Press 7": [{"ts": "1", "values": {"t": 1}}]}, "PAYLOAD"),
            (TELEMETRY, {"Press 7": [{"ts": 1, "values": {"t": None}}]}, "PAYLOAD"),
            (TELEMETRY, {"Press 7": [{"ts": 1, "values": {"": 1}}]}, "PAYLOAD"),
            (TELEMETRY, {"Press 7": [{"ts": 1, "values": {}}]}, "PAYLOAD"),
            (TELEMETRY, {"Press 8": [ROW]}, "NOT_CONNECTED"),
            (TELEMETRY, {"Press 7": [{"ts": 1, "values": {"t": "x" * 65_536}}]}, "TOO_LARGE"),
            (ATTRIBUTES, {"Press 7": {"a": None}}, "PAYLOAD"),
            (ATTRIBUTES, {"Press 7": [ROW]}, "PAYLOAD"),
            (CONNECT, {}, "PAYLOAD"),
            ("v1/gateway/rpc", {"device": "Press 7", "id": 9, "data": {}}, "ANSWER"),
            ("v1/gateway/rpc", {"device": "Press 7"}, "PAYLOAD"),
            ("v1/devices/me/rpc/response/9", {}, "ANSWER"),
            ("hall1/7", {}, "TOPIC"),
        ]
        for topic, document, reason in cases:
            with self.subTest(topic=topic, document=str(document)[:60]):
                client = await self.connected()
                payload = document if isinstance(document, bytes) else json.dumps(document).encode()
                client.send(wire.publish(topic, payload, 2, version=4))
                await client.ended()
                self.assert_closed(reason)
                self.assertEqual(self.board.rows, 0)

    async def test_subscriptions(self):
        client = await self.connect()
        client.send(wire.subscribe(["#"], version=4))
        await client.ended()
        self.assert_closed("FILTER")


class Rules(unittest.TestCase):
    def test_names_occur_once(self):
        self.assertEqual(parse(b'{"a":{"b":1}}'), {"a": {"b": 1}})
        with self.assertRaises(ValueError):
            parse(b'{"a":{"b":1,"b":2}}')


if __name__ == "__main__":
    unittest.main()
