"""A client of MQTT 3.1.1 that says what a test wants, sound or not."""

import asyncio

import mqtt_wire as wire


class Client:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, packet):
        self.writer.write(packet)

    def close(self):
        self.writer.close()

    async def expect(self, kind):
        packet = await asyncio.wait_for(wire.read_packet(self.reader), 5.0)
        assert packet is not None and packet[0] == kind, f"{packet} is not of type {kind}"
        return packet[2]

    async def ended(self):
        """Waits until the other side has closed it."""
        try:
            while await asyncio.wait_for(wire.read_packet(self.reader), 20.0) is not None:
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    def publish(self, topic, payload, packet_id=1, **more):
        self.send(wire.publish(topic, payload, packet_id, version=4, **more))
