"""The stand-in for the MQTT broker of Azure Event Grid must catch every client that breaks a rule, and let one pass that
breaks none (uplink.24)."""

import asyncio
import logging
import ssl
import tempfile
import unittest

import mqtt_wire as wire
from azure_event_grid import IN_FLIGHT, PACKET_BYTES, Line, Namespace, Spaces, make_context
from azure_iot_hub import accept_frames
from certificates import Authority
from mqtt_service import port_of, start
from service_client import Client

TOPIC = "tidegate/gw-1/bson"
COMMANDS = "tidegate/gw-1/cmd/#"
SPACES = Spaces(("tidegate/gw-1/#",), (COMMANDS,))


class Rejecting(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        # What asyncio has to say of handshakes that fail, as they shall.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        cls.folder = tempfile.TemporaryDirectory()
        cls.authority = Authority(cls.folder.name, "ca")
        for name in ("server", "gw-1", "gw-2", "nobody"):
            cls.authority.issue(name)
        Authority(cls.folder.name, "stranger").issue("spy")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name, kind="pem"):
        return str(self.authority.path(name, kind))

    async def asyncSetUp(self):
        self.namespace = Namespace({"gw-1", "gw-2"}, SPACES)
        context = make_context(self.path("ca"), self.path("server"), self.path("server", "key"))
        self.servers = [
            await start(self.namespace, context, connection=Line),
            await start(self.namespace, context, accept_frames, connection=Line),
        ]
        self.clients = []

    async def asyncTearDown(self):
        for each in self.clients + self.servers:
            each.close()
        await asyncio.sleep(0)

    async def open(self, shows="gw-1", door=0):
        context = ssl.create_default_context(cafile=self.path("ca"))
        if shows:
            context.load_cert_chain(self.path(shows), self.path(shows, "key"))
        opened = asyncio.open_connection("localhost", port_of(self.servers[door]), ssl=context)
        self.clients.append(Client(*await opened))
        return self.clients[-1]

    async def connect(self, client_id="gw-1-cloud", code=0, shows="gw-1", **more):
        client = await self.open(shows)
        client.send(wire.connect(client_id, **{"username": shows, **more}))
        self.assertEqual((await client.expect(wire.CONNACK))[1], code, self.namespace.closed)
        return client

    async def publish(self, client, topic=TOPIC, payload=b"1", packet_id=1, **more):
        """Publishes, and returns the reason code of the answer."""
        client.send(wire.publish(topic, payload, packet_id, **more))
        answer = await client.expect(wire.PUBACK)
        return answer[2] if len(answer) > 2 else 0

    async def assert_closed(self, client, reason, code):
        self.assertEqual((await client.expect(wire.DISCONNECT))[0], code)
        await client.ended()
        self.assertEqual(self.namespace.closed.pop()[0], reason)

    async def test_a_right_client_passes(self):
        client = await self.connect(clean=False, session_expiry=3600)
        client.send(wire.subscribe([COMMANDS]))
        self.assertEqual((await client.expect(wire.SUBACK))[3:], bytes([1]))
        self.assertEqual(await self.publish(client, "tidegate/gw-1/result/a", b"{}"), 0)
        self.assertEqual(self.namespace.send("tidegate/gw-1/cmd/a", "1"), 1)
        message = wire.read_publish(2, await client.expect(wire.PUBLISH), 5)
        self.assertEqual((message.topic, message.payload), ("tidegate/gw-1/cmd/a", b"1"))
        client.send(wire.packet(wire.PUBACK, 0, message.packet_id.to_bytes(2, "big")))
        client.send(wire.packet(wire.PINGREQ, 0, b""))
        await client.expect(wire.PINGRESP)
        client.send(wire.packet(wire.DISCONNECT, 0, b""))
        await client.ended()
        self.assertEqual(self.namespace.closed, [])
        self.assertEqual(self.namespace.results, [["tidegate/gw-1/result/a", "{}"]])

    async def test_who_shows_no_certificate_of_the_authority_is_not_heard(self):
        for shows in (None, "spy"):
            with self.assertRaises((OSError, AssertionError, asyncio.IncompleteReadError)):
                client = await self.open(shows)
                client.send(wire.connect("gw-1-cloud", username="gw-1"))
                await client.expect(wire.CONNACK)
        self.assertEqual(self.namespace.connects, [])

    async def test_connects_that_are_refused(self):
        will = ("tidegate/gw-1/will", b"x", 1)
        cases = [
            ("PROTOCOL", 0x84, {"version": 4}),
            ("LOGIN", 0x8C, {"authentication_method": b"OAUTH2-JWT"}),
            ("LOGIN", 0x87, {"shows": "nobody"}),
            ("LOGIN", 0x87, {"username": "gw-2"}),
            ("LOGIN", 0x87, {"password": b"secret"}),
            ("CLIENT_ID", 0x85, {"client_id": ""}),
            ("CLIENT_ID", 0x85, {"client_id": "x" * 129}),
            ("KEEP_ALIVE", 0x83, {"keep_alive": 1161}),
            ("KEEP_ALIVE", 0x83, {"keep_alive": 0}),
            ("PROPERTIES", 0x83, {"user": [("a", "b")]}),
            ("WILL", 0x83, {"will": will, "will_delay": 301}),
        ]
        for reason, code, more in cases:
            with self.subTest(more):
                client = await self.connect(code=code, **more)
                await client.ended()
                self.assertEqual(self.namespace.closed.pop()[0], reason)
        await self.connect(keep_alive=1160, will=will, will_delay=300)
        await self.connect("x" * 128, username=None)

    async def test_who_does_not_wait_or_says_something_else_first_is_closed(self):
        client = await self.open()
        client.send(wire.connect("gw-1-cloud", username="gw-1") + wire.publish(TOPIC, b"1"))
        await client.ended()
        self.assertEqual(self.namespace.closed.pop()[0], "EARLY")
        client = await self.open()
        client.send(wire.packet(wire.PINGREQ, 0, b""))
        await client.ended()
        self.assertEqual(self.namespace.closed.pop()[0], "NO_CONNECT")

    async def test_a_second_client_of_the_same_name_ends_the_first(self):
        first = await self.connect()
        await self.connect(shows="gw-2")
        await self.assert_closed(first, "TAKEN_OVER", 0x8E)

    async def test_publications_that_close_the_connection(self):
        cases = [
            ("QOS", 0x9B, {"qos": 2}),
            ("TOO_LARGE", 0x95, {"payload": bytes(PACKET_BYTES)}),
            ("TOPIC", 0x90, {"topic": "$SYS/x"}),
            ("TOPIC", 0x90, {"topic": "tidegate/gw-1/+"}),
            ("TOPIC", 0x90, {"topic": ""}),
            ("ALIAS", 0x94, {"topic_alias": 11}),
            ("ALIAS", 0x82, {"topic": "", "topic_alias": 1}),
        ]
        for reason, code, more in cases:
            with self.subTest(reason):
                client = await self.connect()
                client.send(wire.publish(**{"topic": TOPIC, "payload": b"1", **more}))
                await self.assert_closed(client, reason, code)
        client = await self.connect()
        self.assertEqual(await self.publish(client, payload=bytes(500 * 1024), topic_alias=10), 0)
        self.assertEqual(await self.publish(client, "", topic_alias=10, user=[("a", "b")]), 0)

    async def test_what_no_topic_space_allows_is_refused(self):
        client = await self.connect()
        self.assertEqual(await self.publish(client, "tidegate/gw-2/bson"), 0x87)
        self.assertEqual(await self.publish(client), 0)
        self.assertEqual(self.namespace.refused, ["tidegate/gw-2/bson"])
        client.send(wire.subscribe(["tidegate/gw-2/cmd/#", COMMANDS]))
        self.assertEqual((await client.expect(wire.SUBACK))[3:], bytes([0x87, 1]))
        client.send(wire.subscribe([COMMANDS], subscription_id=1))
        await self.assert_closed(client, "SUBSCRIBE", 0xA1)

    async def test_what_comes_too_fast_closes_the_connection(self):
        self.namespace.rates = 10, 1_000
        client = await self.connect()
        client.send(b"".join(wire.publish(TOPIC, b"1", qos=0) for _ in range(100)))
        await self.assert_closed(client, "THROTTLED", 0x97)
        client = await self.connect()
        client.send(b"".join(wire.publish(TOPIC, bytes(100_000), qos=0) for _ in range(10)))
        await self.assert_closed(client, "THROTTLED", 0x97)

    async def test_a_hundred_may_be_without_an_answer(self):
        self.namespace.ack_delay = 30.0
        client = await self.connect()
        client.send(b"".join(wire.publish(TOPIC, b"1", number) for number in range(1, IN_FLIGHT + 2)))
        while (packet := await asyncio.wait_for(wire.read_packet(client.reader), 5.0))[0] == wire.PUBACK:
            pass
        self.assertEqual((packet[0], packet[2][0]), (wire.DISCONNECT, 0x93))
        self.assertEqual(self.namespace.most_in_flight, IN_FLIGHT)
        self.assertEqual(self.namespace.closed.pop()[0], "RECEIVE_MAXIMUM")

    async def test_who_is_silent_for_too_long_is_closed(self):
        self.namespace.patience = 0.01
        client = await self.connect(keep_alive=1)
        await self.assert_closed(client, "KEEP_ALIVE", 0x8D)

    async def test_packets_that_are_none(self):
        for packet, reason, code in [
            (wire.packet(wire.AUTH, 0, b""), "LOGIN", 0x8C),
            (wire.packet(wire.CONNACK, 0, b"\0\0"), "PROTOCOL", 0x82),
            (wire.packet(wire.PUBLISH, 2, b"\0"), "MALFORMED", 0x81),
        ]:
            client = await self.connect()
            client.send(packet)
            await self.assert_closed(client, reason, code)

    async def test_a_session_waits_for_its_client_until_too_much_waits(self):
        client = await self.connect(clean=False, session_expiry=3600)
        client.send(wire.subscribe([COMMANDS]))
        await client.expect(wire.SUBACK)
        client.close()
        while self.namespace.connections:
            await asyncio.sleep(0)
        self.namespace.send("tidegate/gw-1/cmd/a", "1")
        client = await self.open()
        client.send(wire.connect("gw-1-cloud", clean=False, session_expiry=3600))
        self.assertEqual((await client.expect(wire.CONNACK))[0], 1)
        await client.expect(wire.PUBLISH)
        client.close()
        while self.namespace.connections:
            await asyncio.sleep(0)
        for _ in range(101):
            self.namespace.send("tidegate/gw-1/cmd/a", "1")
        client = await self.open()
        client.send(wire.connect("gw-1-cloud", clean=False, session_expiry=3600))
        self.assertEqual((await client.expect(wire.CONNACK))[0], 0)

    async def test_frames_are_for_the_path_of_mqtt(self):
        for path, status in [("/mqtt", b" 101 "), ("/other", b"")]:
            client = await self.open(door=1)
            lines = [
                f"GET {path} HTTP/1.1",
                "Host: localhost",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Protocol: mqtt",
            ]
            client.send("\r\n".join([*lines, "", ""]).encode())
            if status:
                self.assertIn(status, await asyncio.wait_for(client.reader.readline(), 5.0))
        await client.reader.read()
        self.assertEqual(self.namespace.closed.pop()[0], "WEBSOCKET")


if __name__ == "__main__":
    unittest.main()
