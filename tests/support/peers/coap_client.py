"""A CoAP client: single requests, CON or NON, and numbered series of them."""

import asyncio

import aiocoap
from aiocoap import Code, Message
from aiocoap.numbers import ContentFormat
from aiocoap.numbers.types import Type

from lines import AllSeries, serve

METHODS = {name: getattr(Code, name.upper()) for name in ("get", "put", "post", "delete")}


class Client:
    """One CoAP endpoint."""

    def __init__(self, context):
        self.context = context

    async def request(
        self,
        method,
        uri,
        payload="",
        payload_hex=None,
        content_format=None,
        accept=None,
        confirmable=True,
        timeout=10.0,
    ):
        """Sends one request and returns the answer: code such as "2.04", payload, content format, options."""
        body = bytes.fromhex(payload_hex) if payload_hex is not None else payload.encode()
        kind = Type.CON if confirmable else Type.NON
        message = Message(code=METHODS[method], uri=uri, payload=body, _mtype=kind)
        if content_format is not None:
            message.opt.content_format = ContentFormat(content_format)
        if accept is not None:
            message.opt.accept = ContentFormat(accept)
        answer = await asyncio.wait_for(self.context.request(message).response, timeout)
        code = int(answer.code)
        return {
            "code": f"{code >> 5}.{code & 0x1F:02}",
            "payload": answer.payload.decode(errors="replace"),
            "payload_hex": answer.payload.hex(),
            "content_format": None if answer.opt.content_format is None else int(answer.opt.content_format),
            "max_age": answer.opt.max_age,
            "etag": answer.opt.etag.hex() if answer.opt.etag else None,
        }

    def sender(self, method, uri, payload="{n}", **options):
        """Returns what sends message `number` of a series; 2.xx acknowledges it."""

        async def send_one(number):
            text = str(number)
            try:
                answer = await self.request(
                    method, uri.replace("{n}", text), payload.replace("{n}", text), **options
                )
            except aiocoap.error.Error:
                return False
            return answer["code"].startswith("2.")

        return send_one


async def main():
    context = await aiocoap.Context.create_client_context()
    client = Client(context)
    try:
        await serve({"request": client.request, **AllSeries(client.sender).handlers()})
    finally:
        await context.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
