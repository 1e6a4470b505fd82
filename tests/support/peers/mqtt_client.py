"""MQTT clients, 3.1.1 and 5: connect with all options, publish with the answer's reason code, collect messages.

Every request names its `client`, so one peer plays several; the name "main" may be left out.
"""

import asyncio
import socket

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from lines import AllSeries, serve, wait_until

VERSIONS = {3: mqtt.MQTTv31, 4: mqtt.MQTTv311, 5: mqtt.MQTTv5}
MESSAGES_MAX = 1_000_000
TIMEOUT = 10.0


def make_properties(kind, values):
    """Builds MQTT 5 properties from names as paho spells them, such as {"ContentType": "text/plain"}.

    "UserProperty" takes a list of pairs, "CorrelationData" hexadecimal text.
    """
    if not values:
        return None
    properties = Properties(kind)
    for name, value in values.items():
        if name == "UserProperty":
            value = [tuple(pair) for pair in value]
        elif name == "CorrelationData":
            value = bytes.fromhex(value)
        setattr(properties, name, value)
    return properties


def show_properties(properties):
    """Returns properties as `make_properties` takes them."""
    if properties is None:
        return {}
    shown = {}
    for name in properties.names.keys():
        attribute = name.replace(" ", "")
        if hasattr(properties, attribute):
            value = getattr(properties, attribute)
            shown[attribute] = value.hex() if isinstance(value, bytes) else value
    return shown


class Paho(mqtt.Client):
    """Paho without a flaw of its 2.1 and 2.2 that breaks QoS 2 (MQTT 5.0, section 4.3.3).

    Each attempt to reconnect resets what is under way. The first turns "wait for PUBCOMP" into "send PUBREL again",
    a second one, after a refused connection, turns that into "send PUBLISH", which a sender must never do again.
    """

    def _messages_reconnect_reset_out(self):
        with self._out_message_mutex:
            released = [m for m in self._out_messages.values() if m.state == mqtt.mqtt_ms_resend_pubrel]
            super()._messages_reconnect_reset_out()
            for message in released:
                message.state = mqtt.mqtt_ms_resend_pubrel


class Client:
    """One client and what its callbacks, which run in paho's thread, have reported."""

    def __init__(self, host, port, client_id="", version=5, **options):
        self.loop = asyncio.get_running_loop()
        self.version = version
        self.address = (host, port)
        self.options = options
        self.messages = []
        self.lost = 0
        self.answers = {}
        self.connected = None
        self.connections = 0
        self.closed = None
        extra = {} if version == 5 else {"clean_session": options.get("clean", True)}
        self.paho = Paho(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=VERSIONS[version],
            reconnect_on_failure=options.get("reconnect", False),
            transport="websockets" if options.get("websocket") else "tcp",
            **extra,
        )
        if path := options.get("websocket"):
            self.paho.ws_set_options(path=path)
        if tls := options.get("tls"):
            self.paho.tls_set(tls["ca"], tls.get("cert"), tls.get("key"))
        self.paho.max_inflight_messages_set(options.get("in_flight", 64))
        self.paho.reconnect_delay_set(0.05, 0.2)
        if options.get("username") is not None:
            self.paho.username_pw_set(options["username"], options.get("password"))
        if will := options.get("will"):
            self.paho.will_set(
                will["topic"],
                will.get("payload", ""),
                will.get("qos", 0),
                will.get("retain", False),
                make_properties(PacketTypes.WILLMESSAGE, will.get("properties")),
            )
        self.paho.on_connect = self._report(self._connected)
        self.paho.on_disconnect = self._report(self._disconnected)
        self.paho.on_message = self._report(self._received)
        self.paho.on_publish = self._report(self._published)
        self.paho.on_subscribe = self._report(self._subscribed)
        self.paho.on_unsubscribe = self._report(self._subscribed)

    async def connect(self, timeout=TIMEOUT):
        """Connects and returns what CONNACK said."""
        options = self.options
        arguments = {}
        if self.version == 5:
            arguments["clean_start"] = options.get("clean", True)
            arguments["properties"] = make_properties(PacketTypes.CONNECT, options.get("properties"))
        keep_alive = options.get("keep_alive", 60)
        await asyncio.to_thread(self.paho.connect, *self.address, keep_alive, **arguments)
        self.paho.loop_start()
        answered = lambda: self.connected is not None or self.closed is not None
        if not await wait_until(answered, timeout):
            raise TimeoutError("no CONNACK")
        return self.connected or {"reason": self.closed["reason"], "refused": True}

    async def publish(self, topic, payload="", payload_hex=None, qos=0, retain=False, properties=None, timeout=TIMEOUT):
        """Publishes and waits for the answer; returns its reason code (0 with 3.1.1 and QoS 0)."""
        body = bytes.fromhex(payload_hex) if payload_hex is not None else payload
        extra = {"properties": make_properties(PacketTypes.PUBLISH, properties)} if self.version == 5 else {}
        sent = self.paho.publish(topic, body, qos, retain, **extra)
        if sent.rc not in (mqtt.MQTT_ERR_SUCCESS, mqtt.MQTT_ERR_NO_CONN):
            raise OSError(mqtt.error_string(sent.rc))
        return await self._answer(sent.mid, timeout)

    async def subscribe(self, filters, properties=None, no_local=False, retain_handling=0, timeout=TIMEOUT):
        """Subscribes to [filter, QoS] pairs and returns the granted QoS or reason code of each."""
        if self.version == 5:
            wanted = [
                (text, SubscribeOptions(qos=qos, noLocal=no_local, retainHandling=retain_handling))
                for text, qos in filters
            ]
            result, mid = self.paho.subscribe(
                wanted, properties=make_properties(PacketTypes.SUBSCRIBE, properties)
            )
        else:
            result, mid = self.paho.subscribe([(text, qos) for text, qos in filters])
        if result != mqtt.MQTT_ERR_SUCCESS:
            raise OSError(mqtt.error_string(result))
        return await self._answer(mid, timeout)

    async def unsubscribe(self, filters, timeout=TIMEOUT):
        """Unsubscribes and returns the reason codes."""
        result, mid = self.paho.unsubscribe(filters)
        if result != mqtt.MQTT_ERR_SUCCESS:
            raise OSError(mqtt.error_string(result))
        return await self._answer(mid, timeout)

    async def disconnect(self, properties=None):
        """Says DISCONNECT and waits for the end."""
        extra = {"properties": make_properties(PacketTypes.DISCONNECT, properties)} if self.version == 5 else {}
        self.paho.disconnect(**extra)
        await asyncio.to_thread(self.paho.loop_stop)

    def drop(self):
        """Closes the connection without a word, as a crash would; a will is due."""
        stream = self.paho.socket()
        if stream is not None:
            stream.shutdown(socket.SHUT_RDWR)

    def _answer(self, mid, timeout):
        # The callback's turn comes after ours, so the future is in place before the answer is.
        answer = self.answers.setdefault(mid, self.loop.create_future())
        return asyncio.wait_for(asyncio.shield(answer), timeout)

    def _report(self, method):
        return lambda _client, _userdata, *facts: self.loop.call_soon_threadsafe(method, *facts)

    def _resolve(self, mid, value):
        answer = self.answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(value)

    def _connected(self, flags, reason, properties):
        self.closed = None
        self.connections += 1
        self.connected = {
            "reason": reason.value,
            "refused": reason.is_failure,
            "session_present": flags.session_present,
            "properties": show_properties(properties),
        }

    def _disconnected(self, flags, reason, properties):
        self.closed = {
            "reason": reason.value,
            "by_server": flags.is_disconnect_packet_from_server,
            "properties": show_properties(properties),
        }
        if not self.options.get("reconnect"):
            # Nobody will answer any more.
            for answer in self.answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError(f"closed: {reason.value}"))
                    answer.exception()
            self.answers.clear()

    def _published(self, mid, reason, _properties):
        self._resolve(mid, reason.value)

    def _subscribed(self, mid, reasons, _properties):
        self._resolve(mid, [reason.value for reason in reasons])

    def _received(self, message):
        if len(self.messages) >= MESSAGES_MAX:
            self.lost += 1
            return
        self.messages.append(
            {
                "topic": message.topic,
                "payload": message.payload.decode(errors="replace"),
                "payload_hex": message.payload.hex(),
                "qos": message.qos,
                "retain": message.retain,
                "dup": message.dup,
                "properties": show_properties(getattr(message, "properties", None)),
            }
        )


class Clients:
    """The clients of this peer by name."""

    def __init__(self):
        self.clients = {}

    def handlers(self):
        forwarded = ("publish", "subscribe", "unsubscribe", "disconnect", "drop")
        return {
            "connect": self.connect,
            "messages": self.messages,
            "state": self.state,
            **{name: self._forward(name) for name in forwarded},
            **AllSeries(self.sender).handlers(),
        }

    async def connect(self, client="main", **options):
        """Connects a client, in place of an earlier one of that name; returns what CONNACK said."""
        if earlier := self.clients.pop(client, None):
            await asyncio.to_thread(earlier.paho.loop_stop)
        self.clients[client] = Client(**options)
        return await self.clients[client].connect()

    async def messages(self, client="main", count=0, timeout=TIMEOUT, take=False):
        """Waits for at least `count` messages and returns all; `take` forgets them."""
        of = self.clients[client]
        if not await wait_until(lambda: len(of.messages) >= count, timeout):
            raise TimeoutError(f"{len(of.messages)} of {count} messages: {of.messages[-5:]}")
        if of.lost:
            raise OverflowError(f"{of.lost} messages beyond {MESSAGES_MAX} were not kept")
        messages = list(of.messages)
        if take:
            of.messages.clear()
        return messages

    def state(self, client="main"):
        """Returns whether the client is connected, the last CONNACK and the last end of a connection."""
        of = self.clients[client]
        return {
            "connected": of.paho.is_connected(),
            "connack": of.connected,
            "closed": of.closed,
            "connections": of.connections,
        }

    def sender(self, topic, payload="{n}", client="main", accepted=(0, 16), **options):
        """Returns what publishes message `number` of a series; reasons 0x00 and 0x10 acknowledge it."""

        async def send_one(number):
            text = str(number)
            reason = await self.clients[client].publish(
                topic.replace("{n}", text), payload.replace("{n}", text), **options
            )
            return reason in accepted

        return send_one

    def _forward(self, name):
        return lambda client="main", **arguments: getattr(self.clients[client], name)(**arguments)


async def main():
    await serve(Clients().handlers())


if __name__ == "__main__":
    asyncio.run(main())
