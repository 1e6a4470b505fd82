"""An HTTP client over one kept-alive connection: single requests, and numbered series of them."""

import asyncio
import http.client
from urllib.parse import urlsplit

from lines import AllSeries, serve


class Client:
    """Keeps one connection for each server."""

    def __init__(self):
        self.connections = {}

    async def request(self, method, url, body="", headers=None, timeout=10.0):
        """Sends one request and returns status, headers and body."""
        return await asyncio.to_thread(self._request, method, url, body, headers or {}, timeout)

    def _request(self, method, url, body, headers, timeout):
        parts = urlsplit(url)
        connection = self.connections.pop(parts.netloc, None)
        if connection is None:
            connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, target, body.encode(), headers)
            response = connection.getresponse()
            answer = {
                "status": response.status,
                "headers": {name.lower(): value for name, value in response.getheaders()},
                "body": response.read().decode(errors="replace"),
            }
        except BaseException:
            connection.close()
            raise
        if answer["headers"].get("connection", "").lower() != "close":
            self.connections[parts.netloc] = connection
        return answer

    def sender(self, method, url, body="{n}", headers=None, timeout=10.0):
        """Returns what sends message `number` of a series; 200 to 204 acknowledge it, 202 does not."""

        async def send_one(number):
            text = str(number)
            try:
                answer = await self.request(
                    method, url.replace("{n}", text), body.replace("{n}", text), headers, timeout
                )
            except http.client.HTTPException:
                return False
            return answer["status"] in (200, 201, 204)

        return send_one


async def main():
    client = Client()
    await serve({"request": client.request, **AllSeries(client.sender).handlers()})


if __name__ == "__main__":
    asyncio.run(main())
