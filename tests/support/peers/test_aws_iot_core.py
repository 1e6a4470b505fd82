"""The stand-in for AWS IoT Core must catch every client that breaks a rule, and let one pass that breaks none (uplink.41)."""

import asyncio
import json
import logging
import ssl
import tempfile
import time
import unittest
import urllib.parse
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import aws_fleet
import aws_limits
import mqtt_wire as wire
from aws_authorizer import NAME, SIGNATURE, Authorizer, split_user_name
from aws_fleet import CREATE, Fleet
from aws_iot_core import DOORS, Service, make_context, port_of, start
from aws_limits import PROTOCOL, Bucket, Policy, Refusal, check_topic, matches
from aws_shadow import Shadows, levels
from aws_sigv4 import Keys
from certificates import Authority
from lines import wait_until

CLIENTS = {"gw-1", "gw-2", "x" * 128}
PUBLISH = ["tidegate/gw-1/#", "$aws/rules/r/#", "deep/#"]
SUBSCRIBE = {f"tidegate/gw-1/cmd/{number}" for number in range(60)} | {"tidegate/gw-1/cmd/#"}
TOPIC = "tidegate/gw-1/x"
SHADOW = "$aws/things/gw-1/shadow/name/plant"
ANSWERS = [f"{SHADOW}/{suffix}" for suffix in ("update/delta", "update/accepted", "update/rejected")]
ANSWERS += [f"{SHADOW}/{suffix}" for suffix in ("get/accepted", "get/rejected", "delete/accepted", "delete/rejected")]
PUBLISH += ["$aws/things/gw-1/shadow/name/plant/#", "$aws/things/gw-9/#"]
SUBSCRIBE |= set(ANSWERS)


class Client:
    """A client that says what the test wants."""

    def __init__(self, reader, writer, version):
        self.reader, self.writer, self.version = reader, writer, version

    def send(self, *packets):
        self.writer.write(b"".join(packets))

    async def read(self, timeout=5.0):
        return await asyncio.wait_for(wire.read_packet(self.reader), timeout)

    async def expect(self, kind):
        packet = await self.read()
        assert packet is not None and packet[0] == kind, f"{packet} is not of type {kind}"
        return packet[2]

    async def ended(self):
        """Returns the reason code of the DISCONNECT, `None` if the connection ended without one."""
        code = None
        try:
            while (packet := await self.read()) is not None:
                if packet[0] == wire.DISCONNECT:
                    code = packet[2][0]
        except (OSError, asyncio.IncompleteReadError):
            pass
        return code

    def publish(self, topic=TOPIC, payload=b"1", packet_id=1, **more):
        self.send(wire.publish(topic, payload, packet_id, version=self.version, **more))


class Rejecting(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        # What asyncio has to say of handshakes that fail, as they shall.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        cls.folder = tempfile.TemporaryDirectory()
        cls.authority = Authority(cls.folder.name, "ca")
        for name in ("server", "gw", "claim"):
            cls.authority.issue(name)
        Authority(cls.folder.name, "stranger").issue("spy")
        cls.authorizer = Authorizer("plant")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def path(self, name, kind="pem"):
        return str(self.authority.path(name, kind))

    async def asyncSetUp(self):
        self.service = Service(Policy(CLIENTS, PUBLISH, SUBSCRIBE), ack_delay=0.0, authorizer=self.authorizer)
        self.service.fleet = Fleet("gateways", {"claim"})
        self.service.keys = Keys("AKID", "secret", "eu-1", "a/b+=")
        self.service.shadows = Shadows({"gw-1"})
        server = (self.path("server"), self.path("server", "key"))
        self.servers = []
        for door in DOORS.values():
            context = make_context(self.path("ca"), *server, "localhost", door.by_certificate, self.service.fleet)
            self.servers.append(await start(self.service, context, door))
        self.ports = [port_of(server) for server in self.servers]

    async def asyncTearDown(self):
        for server in self.servers:
            server.close()
        self.service.drop()
        await asyncio.sleep(0)

    async def open(self, protocols=(), cert="gw", name="localhost", web=False, version=5, oldest=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path("ca"))
        if cert:
            context.load_cert_chain(self.path(cert), self.path(cert, "key"))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if name != "localhost":
            context.check_hostname = False
        if oldest:
            with warnings.catch_warnings(action="ignore"):
                context.minimum_version = context.maximum_version = oldest
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[web], ssl=context, server_hostname=name)
        self.addCleanup(writer.close)
        return Client(reader, writer, version)

    async def connect(self, client_id="gw-1", version=5, **more):
        client = await self.open(version=version)
        client.send(wire.connect(client_id, version, **more))
        await client.expect(wire.CONNACK)
        return client

    def assert_closed(self, reason, detail):
        found = [each for each in self.service.closed if each[0] == reason and detail in each[1]]
        self.assertTrue(found, f"{reason}, {detail!r}: {self.service.closed}")

    async def test_a_client_that_breaks_no_rule_passes(self):
        for version in (4, 5):
            with self.subTest(version=version):
                client = await self.connect(f"gw-{version - 3}", version)
                client.send(wire.subscribe(["tidegate/gw-1/cmd/#"], version=version))
                await client.expect(wire.SUBACK)
                client.publish(payload=bytes(aws_limits.PAYLOAD_BYTES))
                client.publish("/".join(["deep"] + ["x"] * 7), packet_id=2)
                client.publish("$aws/rules/r/" + "/".join("12345678"), packet_id=3)
                answered = sorted([(await client.expect(wire.PUBACK))[1] for _ in range(3)])
                self.assertEqual(answered, [1, 2, 3])
                self.service.send("tidegate/gw-1/cmd/a", "now")
                self.assertIn(b"now", await client.expect(wire.PUBLISH))
        self.assertEqual((self.service.closed, self.service.discarded), ([], 0))

    async def test_whoever_is_wrong_in_tls_gets_no_further(self):
        self.assertIsNotNone(await self.open((PROTOCOL,), web=True))
        cases = [
            {"cert": None},
            {"cert": "spy"},
            {"name": "elsewhere.example"},
            {"name": ""},
            {"oldest": ssl.TLSVersion.TLSv1_1},
        ]
        for case in cases:
            with self.subTest(case=case):
                # With TLS 1.3 a client learns what is wrong with its certificate when it reads.
                with self.assertRaises((ssl.SSLError, OSError, asyncio.IncompleteReadError, AssertionError)):
                    client = await self.open(**case)
                    client.send(wire.connect("gw-1"))
                    await client.expect(wire.CONNACK)
        self.assertEqual(self.service.connects, [])

    async def test_application_protocols_are_for_443_alone(self):
        for web, protocols in [(True, ()), (True, ("mqtt",)), (True, ("http/1.1",)), (False, (PROTOCOL,))]:
            with self.subTest(web=web, protocols=protocols):
                self.service.closed.clear()
                client = await self.open(protocols, web=web)
                self.assertIsNone(await client.ended())
                self.assert_closed("CLIENT_ERROR", "application protocol")

    async def by_user_name(self, username, password=b"secret", protocols=("mqtt",)):
        client = await self.open(protocols, cert=None, web=2)
        client.send(wire.connect("gw-1", username=username, password=password))
        return client

    async def test_a_custom_authorizer_lets_in_whom_it_knows(self):
        signature = self.authorizer.sign("a b")
        told = {NAME: "plant", SIGNATURE: signature, "token": "a b"}
        query = urllib.parse.urlencode(told, quote_via=urllib.parse.quote, safe="")
        client = await self.by_user_name(f"gw?{query}")
        self.assertEqual((await client.expect(wire.CONNACK))[1], 0)
        other = {**told, NAME: "other"}
        unsigned = {NAME: "plant", "token": "a b"}
        no_token = {NAME: "plant", SIGNATURE: signature}
        changed = {**told, "token": "a c"}
        cases = [
            (f"gw?{query}", b"wrong", "wrong password"),
            (f"gw?{query}", None, "wrong password"),
            (f"spy?{query}", b"secret", "user name 'spy'"),
            ("gw", b"secret", "no authorizer None"),
            (f"gw?{query.replace('%20', '+')}", b"secret", "not encoded"),
            (f"gw?{query}&token=x", b"secret", "comes twice"),
            ("gw?x", b"secret", "user name: bad query"),
        ]
        for pairs, detail in [
            (other, "no authorizer 'other'"),
            (unsigned, "wrong signature"),
            (no_token, "no 'token'"),
            (changed, "wrong signature"),
        ]:
            text = urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote, safe="")
            cases.append((f"gw?{text}", b"secret", detail))
        for username, password, detail in cases:
            with self.subTest(detail=detail, username=username[:20]):
                self.service.closed.clear()
                self.service.connect_buckets.clear()
                client = await self.by_user_name(username, password)
                self.assertEqual((await client.expect(wire.CONNACK))[1], 0x87)
                self.assertIsNone(await client.ended())
                self.assert_closed("AUTH_ERROR", detail)
        for protocols in [(), (PROTOCOL,)]:
            self.service.closed.clear()
            client = await self.by_user_name(f"gw?{query}", protocols=protocols)
            self.assertIsNone(await client.ended())
            self.assert_closed("CLIENT_ERROR", "application protocol")

    async def claim(self, subscribed=True):
        """Connects with the claim; both questions may be asked then."""
        self.service.connect_buckets.clear()
        client = await self.open(cert="claim")
        client.send(wire.connect("gw-1"))
        await client.expect(wire.CONNACK)
        if subscribed:
            topics = (CREATE, self.service.fleet.register_topic)
            client.send(wire.subscribe([f"{topic}/{answer}" for topic in topics for answer in aws_fleet.ANSWERS]))
            await client.expect(wire.SUBACK)
        return client

    async def ask(self, client, topic, said):
        """Returns the last level of the answer's topic, and the answer."""
        client.publish(topic, said if isinstance(said, bytes) else json.dumps(said).encode())
        await client.expect(wire.PUBACK)
        answer = wire.read_publish(2, await client.expect(wire.PUBLISH), 5)
        client.send(wire.packet(wire.PUBACK, 0, answer.packet_id.to_bytes(2, "big")))
        self.assertTrue(answer.topic.startswith(topic))
        return answer.topic.rsplit("/", 1)[-1], json.loads(answer.payload)

    def make_request(self):
        """Returns a signing request, and writes its key as that of `own`."""
        key = ec.generate_private_key(ec.SECP256R1())
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.authority.path("own", "key").write_bytes(key.private_bytes(*plain))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw")])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return {"certificateSigningRequest": request.public_bytes(serialization.Encoding.PEM).decode()}

    async def test_a_certificate_is_active_once_its_token_was_used(self):
        client = await self.claim()
        register = self.service.fleet.register_topic
        what, given = await self.ask(client, CREATE, self.make_request())
        self.assertEqual(what, "accepted")
        self.authority.path("own", "pem").write_text(given["certificatePem"])
        early = await self.open(cert="own")
        self.service.connect_buckets.clear()
        early.send(wire.connect("gw-1"))
        self.assertEqual((await early.expect(wire.CONNACK))[1], 0x87)
        self.assert_closed("AUTH_ERROR", "not active")
        token = given["certificateOwnershipToken"]
        cases = [
            ({"certificateOwnershipToken": token}, "InvalidParameters"),
            ({"certificateOwnershipToken": token, "parameters": {"SerialNumber": 1}}, "InvalidParameters"),
            ({"parameters": {"SerialNumber": "1"}}, "InvalidCertificateOwnershipToken"),
            ({"certificateOwnershipToken": "x"}, "InvalidCertificateOwnershipToken"),
            (b"[]", "InvalidPayload"),
        ]
        for said, code in cases:
            with self.subTest(code=code, said=str(said)[:40]):
                what, answer = await self.ask(client, register, said)
                self.assertEqual((what, answer["errorCode"]), ("rejected", code))
        right = {"certificateOwnershipToken": token, "parameters": {"SerialNumber": "1"}}
        self.service.provision(denies="unknown here")
        self.assertEqual((await self.ask(client, register, right))[1]["errorMessage"], "unknown here")
        self.service.provision()
        what, answer = await self.ask(client, register, right)
        self.assertEqual((what, answer["thingName"]), ("accepted", "thing-1"))
        what, answer = await self.ask(client, register, right)
        self.assertEqual(answer["errorCode"], "InvalidCertificateOwnershipToken")
        self.service.connect_buckets.clear()
        own = await self.open(cert="own")
        own.send(wire.connect("gw-1"))
        self.assertEqual((await own.expect(wire.CONNACK))[1], 0)
        self.assertEqual(self.service.fleet.report()["active"], 1)

    async def test_requests_that_are_none_get_no_certificate(self):
        client = await self.claim()
        request = self.make_request()["certificateSigningRequest"]
        broken = request.replace(request[100], "B" if request[100] == "A" else "A", 1)
        for said in [{}, {"certificateSigningRequest": "x"}, {"certificateSigningRequest": 1}, b"no"]:
            with self.subTest(said=str(said)[:40]):
                self.assertEqual((await self.ask(client, CREATE, said))[0], "rejected")
        what, _ = await self.ask(client, CREATE, {"certificateSigningRequest": broken})
        self.assertEqual((what, self.service.fleet.report()["certificates"]), ("rejected", 0))

    async def test_a_claim_may_provision_and_nothing_else(self):
        for send, detail in [
            (wire.publish(TOPIC, b"1"), "may not use 'tidegate"),
            (wire.publish("$aws/provisioning-templates/other/provision/json", b"{}"), "may not use '$aws"),
            (wire.subscribe(["tidegate/gw-1/cmd/#"]), "may not use 'tidegate"),
        ]:
            with self.subTest(detail=detail):
                self.service.closed.clear()
                client = await self.claim()
                client.send(send)
                self.assertEqual(await client.ended(), 0x87)
                self.assert_closed("FORBIDDEN_ACCESS", detail)
        for filters in [[], [f"{CREATE}/accepted"]]:
            self.service.closed.clear()
            client = await self.claim(subscribed=False)
            if filters:
                client.send(wire.subscribe(filters))
                await client.expect(wire.SUBACK)
            client.publish(CREATE, b"{}")
            self.assertEqual(await client.ended(), 0x83)
            self.assert_closed("CLIENT_ERROR", "without a subscription")

    async def shadow(self):
        """Connects, and hears all that a shadow says."""
        self.service.connect_buckets.clear()
        client = await self.connect()
        client.send(wire.subscribe(ANSWERS))
        await client.expect(wire.SUBACK)
        return client

    async def heard(self, client, count=1):
        """Returns what comes next, but for acknowledgements: by what it is."""
        heard = {}
        while len(heard) < count:
            kind, flags, body = await client.read()
            if kind == wire.PUBLISH:
                publish = wire.read_publish(flags, body, 5)
                client.send(wire.packet(wire.PUBACK, 0, publish.packet_id.to_bytes(2, "big")))
                heard[publish.topic.removeprefix(f"{SHADOW}/")] = json.loads(publish.payload)
        return heard

    async def ask_shadow(self, client, verb, said=None, count=1):
        payload = said if isinstance(said, bytes) else json.dumps(said).encode() if said is not None else b""
        client.publish(f"{SHADOW}/{verb}", payload)
        return await self.heard(client, count)

    async def test_a_shadow_is_kept_with_versions_and_times(self):
        client = await self.shadow()
        clock = [100.0]
        self.service.shadows.clock = lambda: clock[0]
        missing = (await self.ask_shadow(client, "get", {"clientToken": "a"}))["get/rejected"]
        self.assertEqual((missing["code"], missing["clientToken"]), (404, "a"))
        report = {"state": {"reported": {"a": {"b": 1}, "c": [1]}}, "clientToken": "b"}
        accepted = (await self.ask_shadow(client, "update", report))["update/accepted"]
        self.assertEqual((accepted["version"], accepted["state"], accepted["clientToken"]), (1, report["state"], "b"))
        clock[0] = 200.0
        self.service.desire("gw-1", {"a": {"b": 2, "x": 3}, "c": [1], "d": True}, "plant")
        heard = await self.heard(client, 2)
        delta = heard["update/delta"]
        self.assertEqual(delta["state"], {"a": {"b": 2, "x": 3}, "d": True})
        self.assertEqual((delta["version"], delta["metadata"]["a"]["b"]), (2, {"timestamp": 200}))
        # A report that leaves something desired has it told again, with the time at which it was desired.
        clock[0] = 300.0
        heard = await self.ask_shadow(client, "update", {"state": {"reported": {"a": {"b": 2}, "c": None}}}, 2)
        delta = heard["update/delta"]
        self.assertEqual((delta["state"], delta["version"]), ({"a": {"x": 3}, "c": [1], "d": True}, 3))
        self.assertEqual(delta["metadata"]["d"], {"timestamp": 200})
        got = (await self.ask_shadow(client, "get"))["get/accepted"]
        self.assertEqual(got["state"]["reported"], {"a": {"b": 2}})
        self.assertEqual(got["state"]["delta"], delta["state"])
        self.assertEqual(got["metadata"]["desired"]["c"], [{"timestamp": 200}])
        self.assertEqual(got["version"], 3)
        # Nothing is told of a difference that is none.
        self.service.desire("gw-1", None, "plant")
        heard = await self.heard(client)
        self.assertEqual(list(heard), ["update/accepted"])
        gone = (await self.ask_shadow(client, "delete"))["delete/accepted"]
        self.assertEqual(gone["version"], 4)
        self.assertEqual((await self.ask_shadow(client, "delete"))["delete/rejected"]["code"], 404)
        anew = await self.ask_shadow(client, "update", {"state": {"reported": {}}})
        self.assertEqual(anew["update/accepted"]["version"], 6)
        self.assertEqual(self.service.closed, [])

    async def test_requests_that_a_shadow_refuses(self):
        client = await self.shadow()
        state = {"reported": {"a": 1}}
        deep = 1
        for _ in range(9):
            deep = {"a": deep}
        cases = [
            (b"", 400),
            (b"{", 400),
            (b'"\xff"', 415),
            ([], 400),
            ({}, 400),
            ({"state": []}, 400),
            ({"state": {}}, 400),
            ({"state": {"delta": {}}}, 400),
            ({"state": {"reported": 1}}, 400),
            ({"state": {"reported": deep}}, 400),
            ({"state": state, "clientToken": ""}, 400),
            ({"state": state, "clientToken": "x" * 65}, 400),
            ({"state": state, "clientToken": 7}, 400),
            ({"state": state, "version": "1"}, 400),
            ({"state": state, "other": 1}, 400),
            ({"state": state, "version": 7}, 409),
            ({"state": {"reported": {"a": "x" * 8200}}}, 413),
        ]
        for said, code in cases:
            with self.subTest(said=str(said)[:60]):
                self.service.shadows.buckets.clear()
                answer = await self.ask_shadow(client, "update", said)
                self.assertEqual(answer["update/rejected"]["code"], code)
        self.assertEqual((await self.ask_shadow(client, "get", b"[]"))["get/rejected"]["code"], 400)
        self.assertEqual(self.service.shadows.report()["documents"]["gw-1/plant"]["version"], 0)
        # What is desired counts as well as what is reported.
        self.service.desire("gw-1", {"a": "x" * 5000}, "plant")
        await self.heard(client, 2)
        both = await self.ask_shadow(client, "update", {"state": {"reported": {"b": "x" * 5000}}})
        self.assertEqual(both["update/rejected"]["code"], 413)
        self.service.refuse_reports(500, "an own one", 1)
        self.assertEqual((await self.ask_shadow(client, "update", {"state": state}))["update/rejected"]["code"], 500)
        self.assertEqual(self.service.closed, [])

    async def test_requests_of_a_shadow_that_are_too_many(self):
        client = await self.shadow()
        self.service.ack_delay = 1e9
        for packet_id in range(1, 11):
            client.publish(f"{SHADOW}/get", b"", packet_id)
        await wait_until(lambda: self.service.shadows.most_open == 10, 5.0)
        self.service.ack_delay = 0.0
        heard = await self.ask_shadow(client, "get")
        self.assertEqual(heard["get/rejected"]["code"], 429)
        self.assertEqual(self.service.shadows.most_open, 11)
        # And what comes too fast, whether or not it is answered at once.
        shadows = Shadows({"gw-1"})
        found = []
        for _ in range(60):
            found.append(shadows.begin(f"{SHADOW}/get"))
            shadows.end(f"{SHADOW}/get")
        self.assertTrue(not found[0] and found[-1])

    async def ask_for_frames(self, path="/mqtt", protocols=(), web=3, **headers):
        """Asks for frames; returns the status of the answer."""
        client = await self.open(protocols, cert=None, web=web)
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        client.send("\r\n".join([*lines, "", ""]).encode())
        answer = await asyncio.wait_for(client.reader.readline(), 5.0)
        return answer.split()[1] if answer else None

    async def test_frames_are_for_whom_a_custom_authorizer_knows(self):
        told = {NAME: "plant", SIGNATURE: self.authorizer.sign("a"), "token": "a", "Sec-WebSocket-Protocol": "mqtt"}
        self.assertEqual(await self.ask_for_frames(**told), b"101")
        cases = [
            ({**told, "token": "b"}, b"403", "wrong signature"),
            ({**told, NAME: "other"}, b"403", "no authorizer 'other'"),
            ({**told, "path": "/"}, b"403", "no WebSocket: /"),
            ({**told, "Sec-WebSocket-Protocol": "amqp"}, None, "subprotocol 'amqp'"),
            ({**told, "protocols": ("mqtt",)}, None, "application protocol"),
        ]
        for headers, status, detail in cases:
            with self.subTest(detail=detail):
                self.service.closed.clear()
                self.assertEqual(await self.ask_for_frames(**headers), status)
                self.assertIn(detail, self.service.closed[0][1])
        self.service.authorizer = None
        self.assertEqual(await self.ask_for_frames(**told), b"403")
        self.assert_closed("AUTH_ERROR", "no authorizer")

    async def test_frames_are_for_whose_request_is_signed(self):
        keys = self.service.keys
        now = time.time()

        def signed(keys=keys, at=now, host="localhost", token="a%2Fb%2B%3D", **changes):
            moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
            scope = f"{moment[:8]}/{keys.region}/iotdevicegateway/aws4_request"
            values = {
                "Algorithm": "AWS4-HMAC-SHA256",
                "Credential": urllib.parse.quote(f"{keys.access_key}/{scope}", safe=""),
                "Date": moment,
                "SignedHeaders": "host",
                **changes,
            }
            query = "&".join(f"X-Amz-{name}={value}" for name, value in values.items())
            query += f"&X-Amz-Signature={keys.sign(query, host, moment)}"
            return f"/mqtt?{query}" + (f"&X-Amz-Security-Token={token}" if token else "")

        async def ask(path):
            return await self.ask_for_frames(path, web=4, **{"Sec-WebSocket-Protocol": "mqtt"})

        self.assertEqual(await ask(signed()), b"101")
        cases = [
            (signed(Keys("AKID", "other", "eu-1")), "wrong signature"),
            (signed(Keys("OTHER", "secret", "eu-1")), "another key"),
            (signed(Keys("AKID", "secret", "eu-2")), "another key"),
            (signed(at=now - 3_600), "a time that is not now"),
            (signed(Date="yesterday"), "does not match format"),
            (signed(host="elsewhere.example"), "wrong signature"),
            (signed(token=None), "are wanted"),
            (signed(token="other"), "another session token"),
            (signed(token="a/b+="), "not encoded"),
            (signed(SignedHeaders="host%3Bdate"), "algorithm or headers"),
            (signed(Expires="60"), "are wanted"),
            (signed().replace("/mqtt", "/", 1), "path '/'"),
            ("/mqtt", "are wanted"),
        ]
        for path, detail in cases:
            with self.subTest(detail=detail):
                self.service.closed.clear()
                self.assertEqual(await ask(path), b"403")
                self.assert_closed("AUTH_ERROR", detail)

    async def test_connects_that_are_refused(self):
        cases = [
            ("", {}, 0x85, 2, "empty client id"),
            ("$GEN/1", {}, 0x85, 2, "client id"),
            ("x" * 129, {}, 0x85, 2, "client id"),
            ("gw-3", {}, 0x87, 7, "may not connect"),
            ("gw-1", {"will": ("$SYS/x", b"", 1)}, 0x87, 2, "reserved"),
            ("gw-1", {"will": ("a", b"", 2)}, 0x9B, 2, "quality of service 2"),
        ]
        for version in (5, 4):
            for client_id, more, code, code_3, detail in cases:
                with self.subTest(version=version, detail=detail, client_id=client_id[:8]):
                    self.service.closed.clear()
                    self.service.connect_buckets.clear()
                    client = await self.open(version=version)
                    client.send(wire.connect(client_id, version, **more))
                    answer = await client.expect(wire.CONNACK)
                    self.assertEqual(answer[1], code if version == 5 else code_3)
                    self.assertIsNone(await client.ended())
                    self.assertIn(detail, self.service.closed[0][1])
        client = await self.open()
        client.send(wire.connect("gw-2", authentication_method=b"PLAIN"))
        self.assertEqual((await client.expect(wire.CONNACK))[1], 0x8C)

    async def test_a_second_connect_within_a_second_is_refused(self):
        await self.connect()
        client = await self.open()
        client.send(wire.connect("gw-1"))
        self.assertEqual((await client.expect(wire.CONNACK))[1], 0x97)
        self.assert_closed("THROTTLED", "CONNECT")

    async def test_a_second_client_of_the_same_name_ends_the_first(self):
        first = await self.connect()
        self.service.connect_buckets.clear()
        await self.connect()
        self.assertEqual(await first.ended(), 0x8E)
        self.assert_closed("DUPLICATE_CLIENTID", "gw-1")

    async def test_whoever_does_not_wait_for_connack_is_closed(self):
        client = await self.open()
        client.send(wire.connect("gw-1"), wire.publish(TOPIC, b"1"))
        self.assertIsNone(await client.ended())
        self.assert_closed("CLIENT_ERROR", "did not wait")

    async def test_publications_that_close_the_connection(self):
        deep = "/".join(["deep"] + ["x"] * 8)
        cases = [
            ({"qos": 2}, 0x9B, "quality of service 2"),
            ({"payload": bytes(aws_limits.PAYLOAD_BYTES + 1)}, 0x95, "PAYLOAD_LIMIT_EXCEEDED"),
            ({"topic": "deep/" + "x" * 252}, 0x90, "257 bytes"),
            ({"topic": deep}, 0x90, "8 slashes"),
            ({"topic": "$aws/rules/r/" + deep}, 0x90, "8 slashes"),
            ({"topic": "$aws/things/gw/shadow/update"}, 0x87, "reserved topic"),
            ({"topic": "$aws/things/gw-9/shadow/update"}, 0x87, "reserved topic"),
            ({"topic": "$aws/things/gw-1/shadow/name/plant/update/accepted"}, 0x87, "reserved topic"),
            ({"topic": "$aws/things/gw-1/shadow/name/other/update"}, 0x87, "may not publish"),
            ({"topic": "$aws/things/gw-1/shadow/name/plant/update", "retain": True}, 0x87, "may not retain"),
            ({"topic": "tidegate/gw-1/+"}, 0x90, "no topic"),
            ({"topic": "tidegate/gw-2/x"}, 0x87, "may not publish"),
            ({"retain": True}, 0x87, "may not retain"),
            ({"user": [("a", "x" * 8192)]}, 0x83, "user properties"),
            ({"topic_alias": 9}, 0x94, "topic alias 9"),
            ({"topic": "", "topic_alias": 3}, 0x82, "stands for nothing"),
        ]
        for version in (5, 4):
            for more, code, detail in cases:
                if version == 4 and ("user" in more or "topic_alias" in more):
                    continue
                with self.subTest(version=version, detail=detail):
                    self.service.closed.clear()
                    self.service.connect_buckets.clear()
                    client = await self.connect(version=version)
                    client.publish(**more)
                    self.assertEqual(await client.ended(), code if version == 5 else None)
                    self.assertIn(detail, self.service.closed[0][1])
                    self.assertEqual(self.service.published, [])

    async def test_what_comes_too_fast_is_discarded_without_an_answer(self):
        client = await self.connect()
        # What is taken while time stands still comes at once, however slow the machine is.
        bucket, begin = self.service.connections["gw-1"].messages, time.monotonic()
        bucket.now = lambda: begin
        for _ in range(500):
            client.publish(qos=0)
        client.publish(packet_id=7)
        client.send(wire.packet(wire.PINGREQ, 0, b""))
        await client.expect(wire.PINGRESP)
        self.assertEqual(len(self.service.published) + self.service.discarded, 501)
        self.assertGreater(self.service.discarded, 50)
        bucket.now = lambda: begin + 1
        client.publish(packet_id=8)
        self.assertEqual((await client.expect(wire.PUBACK))[1], 8)
        self.assertEqual(self.service.closed, [])

    async def test_more_bytes_than_a_second_takes_are_delayed(self):
        client = await self.connect()
        begun = time.monotonic()
        for packet_id in range(1, 9):
            client.publish(payload=bytes(aws_limits.PAYLOAD_BYTES), packet_id=packet_id)
        for _ in range(8):
            await client.expect(wire.PUBACK)
        self.assertGreater(time.monotonic() - begun, 0.7)
        self.assertGreater(self.service.delayed, 0.7)

    async def test_a_hundred_may_be_without_an_answer(self):
        self.service.ack_delay = 1e9
        client = await self.connect()
        for packet_id in range(1, 102):
            client.publish(packet_id=packet_id)
        self.assertEqual(await client.ended(), 0x93)
        self.assertEqual(self.service.most_in_flight, 100)

    async def test_subscriptions(self):
        cases = [
            ([f"tidegate/gw-1/cmd/{number}" for number in range(9)], {}, 0x97, "9 filters"),
            (["#"], {}, 0x87, "may not subscribe"),
            (["/".join("123456789")], {}, 0x90, "8 slashes"),
            (["tidegate/gw-1/cmd/1"], {"subscription_id": 1}, 0xA1, "subscription identifier"),
        ]
        for filters, more, code, detail in cases:
            with self.subTest(detail=detail):
                self.service.connect_buckets.clear()
                client = await self.connect()
                client.send(wire.subscribe(filters, **more))
                self.assertEqual(await client.ended(), code)
                self.assert_closed("CLIENT_ERROR" if code != 0x87 else "FORBIDDEN_ACCESS", detail)
        self.service.connect_buckets.clear()
        client = await self.connect()
        codes = []
        for number in range(51):
            client.send(wire.subscribe([f"tidegate/gw-1/cmd/{number}"]))
            codes.append((await client.expect(wire.SUBACK))[-1])
        self.assertEqual(codes, [1] * 50 + [0x97])
        self.assert_closed("CLIENT_ERROR", "more than 50")
        client.send(wire.subscribe(["tidegate/gw-1/cmd/1"], qos=2))
        with self.assertRaises(asyncio.TimeoutError):
            await client.read(0.2)

    async def test_who_is_silent_for_too_long_is_closed(self):
        self.service.patience = 0.01
        client = await self.connect(keep_alive=1)
        self.assertEqual(await client.ended(), 0x8D)
        self.assert_closed("MQTT_KEEP_ALIVE_TIMEOUT", "silent for 0.3")

    async def test_packets_that_are_none(self):
        cases = [bytes([0xF0, 0]), bytes([0x50, 2, 0, 1]), bytes([0x30, 1, 0]), b"\x30\xff\xff\xff\xff\x7f"]
        for packet in cases:
            with self.subTest(packet=packet.hex()):
                self.service.closed.clear()
                self.service.connect_buckets.clear()
                client = await self.connect()
                client.send(packet)
                self.assertIn(await client.ended(), (0x81, 0x82, 0x8C))
                self.assertEqual(self.service.closed[0][0], "CLIENT_ERROR")
        client = await self.open()
        client.send(wire.publish(TOPIC, b"1"))
        self.assertIsNone(await client.ended())
        self.assert_closed("CLIENT_ERROR", "no CONNECT")

    async def test_a_session_waits_for_its_client(self):
        more = {"clean": False, "session_expiry": 3600}
        client = await self.connect(**more)
        client.send(wire.subscribe(["tidegate/gw-1/cmd/#"]))
        await client.expect(wire.SUBACK)
        client.writer.close()
        await asyncio.sleep(0.05)
        self.service.send("tidegate/gw-1/cmd/a", "later")
        self.service.connect_buckets.clear()
        client = await self.open()
        client.send(wire.connect("gw-1", **more))
        self.assertEqual((await client.expect(wire.CONNACK))[0], 1)
        self.assertIn(b"later", await client.expect(wire.PUBLISH))
        self.service.connect_buckets.clear()
        client = await self.open()
        client.send(wire.connect("gw-1", clean=True))
        self.assertEqual((await client.expect(wire.CONNACK))[0], 0)


class Rules(unittest.TestCase):
    def test_a_signature_of_known_parts(self):
        # Fake keys; what is signed, and the signature, were made step by step elsewhere.
        keys = Keys("AKIDEXAMPLE", "not-a-real-secret-key", "eu-central-1")
        query = (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20250102%2Feu-central-1"
            "%2Fiotdevicegateway%2Faws4_request&X-Amz-Date=20250102T030405Z&X-Amz-SignedHeaders=host"
        )
        signature = keys.sign(query, "a1b2c3-ats.iot.eu-central-1.amazonaws.com", "20250102T030405Z")
        self.assertEqual(signature, "3caa1723e34e757c51134afe90fc84cf94a99a91e6dab32ef6a8a7bd2b455024")

    def test_levels_of_a_state(self):
        self.assertEqual([levels(each) for each in (1, {}, {"a": 1}, {"a": [{"b": 1}]})], [0, 1, 1, 3])

    def test_user_names(self):
        self.assertEqual(split_user_name("gw?a=b%20c&d=%2B"), ("gw", {"a": "b c", "d": "+"}))
        self.assertEqual(split_user_name(None), ("", {}))

    def test_topics(self):
        for good in ["a", "1/2/3/4/5/6/7/8", "x" * 256, "$aws/rules/r", "$aws/rules/r/" + "x" * 256]:
            check_topic(good)
        for bad in ["", "1/2/3/4/5/6/7/8/9", "x" * 257, "$aws/rules/r/" + "x" * 257, "$SYS", "a/#"]:
            with self.assertRaises(Refusal, msg=bad):
                check_topic(bad)

    def test_filters(self):
        for topic_filter, topic, expected in [
            ("a/#", "a", False),
            ("a/#", "a/b/c", True),
            ("a/+", "a/b", True),
            ("a/+", "a/b/c", False),
            ("$share/g/a/b", "a/b", True),
        ]:
            self.assertEqual(matches(topic_filter, topic), expected, (topic_filter, topic))

    def test_a_bucket_fills_at_its_rate(self):
        now = [0.0]
        bucket = Bucket(10, 2, lambda: now[0])
        self.assertEqual(sum(bucket.take(1) for _ in range(20)), 12)
        now[0] = 0.5
        self.assertEqual(sum(bucket.take(1) for _ in range(20)), 5)
        self.assertAlmostEqual(bucket.owe(20), 2.0)


if __name__ == "__main__":
    unittest.main()
