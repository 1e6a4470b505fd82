"""A cloud that takes batches by HTTP: keeps the receiver's book, and answers as it is told.

The server is Python's own. A POST under an idempotency key that was taken before is answered 200 and not entered again.
"""

import argparse
import asyncio
import ssl
import threading
import zlib
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloud import Book
from envelope import decode_batch
from lines import serve, wait_until

BODY_BYTES_MAX = 16 << 20
REQUESTS_MAX = 100_000


class Cloud:
    """What has been asked, and what is to be answered."""

    def __init__(self, token):
        self.token = token
        self.lock = threading.Lock()
        self.book = Book()
        self.keys = {}
        self.script = deque()
        self.requests = []

    def answer(self, status, times=1, headers=None, body="", close=False):
        """Answers the next requests so instead of taking them; status 0 closes the connection without an answer."""
        with self.lock:
            self.script.extend([(status, headers or {}, body, close)] * times)

    def take(self, path, headers, body):
        """Returns the answer to one POST."""
        with self.lock:
            if len(self.requests) >= REQUESTS_MAX:
                raise OverflowError("too many requests")
            self.requests.append({"path": path, "headers": {k.lower(): v for k, v in headers.items()}})
            if self.token and headers.get("Authorization") != f"Bearer {self.token}":
                return 401, {}, "who are you?", False
            if self.script:
                return self.script.popleft()
            key = headers["Idempotency-Key"]
            if key in self.keys:
                self.keys[key] += 1
                return 200, {}, "", False
            coding = headers.get("Content-Encoding")
            if coding == "deflate":
                body = zlib.decompress(body)
            elif coding == "gzip":
                body = zlib.decompress(body, wbits=31)
            elif coding is not None:
                return 415, {}, f"{coding}?", False
            readings, gaps = decode_batch(body)
            for reading in readings:
                self.book.take(reading)
            for gap in gaps:
                self.book.take_gap(gap)
            self.keys[key] = 1
            return 204, {}, "", False

    async def wait(self, count, timeout=20.0):
        """Waits until `count` different readings are there, and returns their number."""
        if not await wait_until(lambda: len(self.book.readings) >= count, timeout):
            raise TimeoutError(f"{len(self.book.readings)} of {count} readings; last {self.requests[-1:]}")
        return len(self.book.readings)


def handler(cloud):
    """Makes the server's class of requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers["Content-Length"])
            if length > BODY_BYTES_MAX:
                raise OverflowError("too large")
            body = self.rfile.read(length)
            status, headers, text, close = cloud.take(self.path, self.headers, body)
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())
            # Without a word in the answer: as servers do that have waited long enough.
            self.close_connection = self.close_connection or close

        def log_message(self, *_):
            pass

    return Handler


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--token")
    options = parser.parse_args()
    cloud = Cloud(options.token)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(cloud))
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    requests = {
        "answer": cloud.answer,
        "wait": cloud.wait,
        "report": cloud.book.report,
        "requests": lambda: cloud.requests,
        "keys": lambda: cloud.keys,
    }
    await serve(requests)


if __name__ == "__main__":
    asyncio.run(main())
