"""A stand-in for ThingsBoard's MQTT gateway interface, as strict as its server is with what it cannot read: it closes the connection.

From the pages "MQTT Gateway API Reference" and "MQTT Device API Reference", and `MqttTransportHandler.java`; stricter in that
a topic it does not know, and data of a device that was not connected, are refused, too. `test_thingsboard.py` shows for each
check that it catches a client that breaks it.
"""

import argparse
import asyncio
import json

from lines import serve, wait_until
from mqtt_service import BAD_LOGIN, Refusal, Service, port_of, start

# NETTY_MAX_PAYLOAD_SIZE, unless an administrator has raised it.
PACKET_BYTES = 65_536
FILTERS = {"v1/gateway/rpc", "v1/gateway/attributes", "v1/devices/me/rpc/request/+"}
OWN = "me"


def parse(payload):
    """Reads JSON in which no name occurs twice and every number is one."""

    def unique(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise ValueError(f"a name occurs twice: {names}")
        return dict(pairs)

    def no_constant(word):
        raise ValueError(word)

    return json.loads(payload, object_pairs_hook=unique, parse_constant=no_constant)


def check(condition, detail):
    if not condition:
        raise Refusal("PAYLOAD", detail)


def check_values(values):
    check(isinstance(values, dict) and values, f"no values: {values!r}")
    for key, value in values.items():
        check(key != "" and value is not None, f"{key!r} is {value!r}")


class Board(Service):
    """What a gateway has said of its devices."""

    def __init__(self, token, ack_delay=0.0):
        super().__init__()
        self.token = token
        self.ack_delay = ack_delay
        self.devices = {}
        self.connected = {}
        self.series = {}
        self.attributes = {}
        self.calls = {}
        self.next_call = 0
        self.largest = 0
        self.rows = 0
        self.messages = 0

    def check_connect(self, connection, connect):
        if connect.username != self.token or connect.password is not None:
            raise Refusal("LOGIN", f"{connect.username!r}", BAD_LOGIN)
        self.connected[connect.client_id] = set()

    async def publish(self, connection, publish, size):
        if size > PACKET_BYTES:
            raise Refusal("TOO_LARGE", f"{size} bytes")
        try:
            document = parse(publish.payload)
        except ValueError as error:
            raise Refusal("PAYLOAD", str(error)) from error
        self.note_published(publish.topic)
        self.largest = max(self.largest, size)
        await asyncio.sleep(self.ack_delay)
        match publish.topic.split("/"):
            case ["v1", "gateway", "connect"]:
                self._connect(connection, document)
            case ["v1", "gateway", "telemetry"]:
                self._for_each(connection, document, self._enter_series)
            case ["v1", "gateway", "attributes"]:
                self._for_each(connection, document, self._enter_attributes)
            case ["v1", "gateway", "rpc"]:
                check(isinstance(document, dict) and document.keys() == {"device", "id", "data"}, str(document)[:80])
                self._answer(document["device"], document["id"], document["data"])
            case ["v1", "devices", "me", "telemetry"]:
                self._enter_series(OWN, document)
            case ["v1", "devices", "me", "rpc", "response", request]:
                self._answer(OWN, int(request), document)
            case _:
                raise Refusal("TOPIC", publish.topic[:80])
        return True

    def _connect(self, connection, document):
        check(isinstance(document, dict) and document.get("device"), "no device")
        check(isinstance(document.get("type", ""), str), "a type that is no text")
        self.devices[document["device"]] = document.get("type", "default")
        self.connected[connection.client_id].add(document["device"])

    def _for_each(self, connection, document, enter):
        check(isinstance(document, dict) and document, "no devices")
        self.messages += 1
        for device, data in document.items():
            if device not in self.connected[connection.client_id]:
                raise Refusal("NOT_CONNECTED", device)
            enter(device, data)

    def _enter_series(self, device, rows):
        check(isinstance(rows, list) and rows, "no rows")
        for row in rows:
            check(isinstance(row, dict) and row.keys() == {"ts", "values"}, f"a row {str(row)[:80]}")
            check(isinstance(row["ts"], int) and row["ts"] > 0, f"a time {row['ts']!r}")
            check_values(row["values"])
            self.rows += 1
            for key, value in row["values"].items():
                self.series.setdefault(device, {}).setdefault(key, []).append([row["ts"], value])

    def _enter_attributes(self, device, values):
        check_values(values)
        self.rows += 1
        self.attributes.setdefault(device, {}).update(values)

    def _answer(self, device, request, data):
        if (device, request) not in self.calls:
            raise Refusal("ANSWER", f"to no call: {device!r} {request!r}")
        if not self.calls[device, request].done():
            self.calls[device, request].set_result(data)

    def subscribe(self, connection, topic_filter, qos):
        if topic_filter not in FILTERS:
            raise Refusal("FILTER", topic_filter[:80])
        return min(qos, 1)

    async def call(self, device, method, params, timeout=10.0):
        """Calls a device, or the gateway itself as `me`; returns the answer, `None` if it is not connected."""
        self.next_call += 1
        data = {"method": method, "params": params}
        answer = asyncio.get_running_loop().create_future()
        self.calls[device, self.next_call] = answer
        if device == OWN:
            reached = self.deliver(f"v1/devices/me/rpc/request/{self.next_call}", json.dumps(data).encode())
        elif any(device in devices for devices in self.connected.values()):
            body = {"device": device, "data": {"id": self.next_call, **data}}
            reached = self.deliver("v1/gateway/rpc", json.dumps(body).encode())
        else:
            reached = 0
        return await asyncio.wait_for(answer, timeout) if reached else None

    def left(self, connection):
        if self.connections.get(connection.client_id) in (None, connection):
            self.connected.pop(connection.client_id, None)

    def report(self):
        return {
            "closed": self.closed,
            "devices": self.devices,
            "series": self.series,
            "attributes": self.attributes,
            "rows": self.rows,
            "messages": self.messages,
            "largest": self.largest,
            "connects": len(self.connects),
        }

    async def wait(self, rows, timeout=25.0):
        """Waits until so many rows are there."""
        if not await wait_until(lambda: self.rows >= rows, timeout):
            raise TimeoutError(f"{self.rows} of {rows}; {self.closed}")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", required=True)
    parser.add_argument("--ack-delay", type=float, default=0.05)
    options = parser.parse_args()
    board = Board(options.token, options.ack_delay)
    server = await start(board)
    requests = {
        "report": board.report,
        "wait": board.wait,
        "call": board.call,
        "drop": board.drop,
        "close_next": board.close_next,
    }
    await serve(requests, port=port_of(server))


if __name__ == "__main__":
    asyncio.run(main())
