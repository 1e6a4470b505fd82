"""A cloud behind RabbitMQ: declares queues, takes what is in them, and keeps the receiver's book.

The client is pika. A message is acknowledged once it is in the book; a consumer comes back after the broker does.
"""

import argparse
import asyncio
import ssl
import threading
import time
import zlib

import pika
import pika.exceptions

from cloud import Book
from envelope import decode_batch
from lines import serve, wait_until

MESSAGES_MAX = 100_000


class Cloud:
    """What has been declared and taken."""

    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.book = Book()
        self.messages = []
        self.held = []

    def connect(self):
        """Opens a connection of its own."""
        tls = None
        if self.options.ca:
            context = ssl.create_default_context(cafile=self.options.ca)
            context.load_cert_chain(self.options.cert, self.options.key)
            tls = pika.SSLOptions(context, "localhost")
        login = pika.PlainCredentials(self.options.username, self.options.password)
        return pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", self.options.port, "/", login, ssl_options=tls)
        )

    async def apart(self, work):
        """Runs what waits for the broker on a thread."""

        def run():
            connection = self.connect()
            try:
                return work(connection.channel())
            finally:
                connection.close()

        return await asyncio.to_thread(run)

    async def declare(self, queue, bindings=(), arguments=None):
        """Declares a durable queue with its bindings: pairs of exchange and key."""

        def work(channel):
            channel.queue_declare(queue, durable=True, arguments=arguments)
            for exchange, key in bindings:
                channel.queue_bind(queue, exchange, key)

        await self.apart(work)

    async def waiting(self, queue):
        """Returns how many messages are in a queue."""
        return await self.apart(lambda channel: channel.queue_declare(queue, passive=True).method.message_count)

    async def hold(self, queue):
        """Declares a queue for one connection alone, which stays."""

        def work():
            connection = self.connect()
            connection.channel().queue_declare(queue, exclusive=True)
            self.held.append(connection)

        await asyncio.to_thread(work)

    async def delete(self, queue):
        """Deletes a queue with what is in it."""

        def work(channel):
            channel.queue_delete(queue)

        await self.apart(work)

    async def publish(self, key, bodies, exchange="amq.topic", deflated=False, **properties):
        """Publishes persistent messages, which are in their queues then. A number stands for a body of so many bytes."""

        def work(channel):
            channel.confirm_delivery()
            said = pika.BasicProperties(delivery_mode=2, **properties)
            if deflated:
                said.content_encoding = "deflate"
            for body in bodies:
                body = b"1" * body if isinstance(body, int) else body.encode()
                body = zlib.compress(body) if deflated else body
                channel.basic_publish(exchange, key, body, said, mandatory=True)

        await self.apart(work)

    async def empty(self, queue):
        """Takes everything out of a queue, and returns keys and bodies."""

        def work(channel):
            taken = []
            while True:
                method, _, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return taken
                taken.append([method.routing_key, body.decode()])

        return await self.apart(work)

    def consume(self, queue):
        """Begins to take what is in a queue, for ever."""
        threading.Thread(target=self.keep_consuming, args=[queue], daemon=True).start()

    def keep_consuming(self, queue):
        while True:
            try:
                channel = self.connect().channel()
                channel.basic_consume(queue, self.take)
                channel.start_consuming()
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(0.2)

    def take(self, channel, method, properties, body):
        """Enters one message, then acknowledges it."""
        with self.lock:
            if len(self.messages) >= MESSAGES_MAX:
                raise OverflowError("too many messages")
            self.messages.append({
                "exchange": method.exchange,
                "key": method.routing_key,
                "redelivered": method.redelivered,
                "delivery_mode": properties.delivery_mode,
                "content_type": properties.content_type,
                "content_encoding": properties.content_encoding,
                "message_id": properties.message_id,
                "app_id": properties.app_id,
                "headers": properties.headers,
            })
            if properties.content_encoding == "deflate":
                body = zlib.decompress(body)
            readings, gaps = decode_batch(body)
            for reading in readings:
                self.book.take(reading)
            for gap in gaps:
                self.book.take_gap(gap)
        channel.basic_ack(method.delivery_tag)

    async def wait(self, count, timeout=25.0):
        """Waits until `count` different readings are there, and returns their number."""
        if not await wait_until(lambda: len(self.book.readings) >= count, timeout):
            raise TimeoutError(f"{len(self.book.readings)} of {count} readings; last {self.messages[-1:]}")
        return len(self.book.readings)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--username", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--ca")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    cloud = Cloud(parser.parse_args())
    requests = {
        "declare": cloud.declare,
        "waiting": cloud.waiting,
        "hold": cloud.hold,
        "delete": cloud.delete,
        "publish": cloud.publish,
        "empty": cloud.empty,
        "consume": cloud.consume,
        "wait": cloud.wait,
        "report": cloud.book.report,
        "messages": lambda: cloud.messages,
    }
    await serve(requests)


if __name__ == "__main__":
    asyncio.run(main())
