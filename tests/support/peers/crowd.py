"""Many connections at once, each doing little or nothing: silent, stalled, dribbling, never reading, or just there.

A crowd has a name and a kind; how each of its connections ended, and after how long, is remembered.
"""

import asyncio
import hashlib
import resource
import select
import socket
import ssl
import struct

from lines import serve, wait_until

TIMEOUT = 20.0


def text(value):
    """Writes a string of MQTT."""
    return struct.pack(">H", len(value)) + value.encode()


class Member:
    """One connection."""

    def __init__(self, number):
        self.number = number
        self.opened = None
        self.is_there = False
        self.ended = None
        self.how = None
        self.received = b""
        self.total = 0
        self.certificate = None
        self.writer = None
        self.pongs = 0


class Crowd:
    """Connections that do the same."""

    def __init__(self, kind, port, count, host="127.0.0.1", source=None, **options):
        self.kind = kind
        self.address = (host, port)
        self.source = (source, 0) if source else None
        self.options = options
        self.members = [Member(number) for number in range(count)]
        self.tls = self._tls(**options["tls"]) if options.get("tls") else None
        self.gate = asyncio.Semaphore(options.get("at_once", 50))
        self.tasks = [asyncio.create_task(self._live(member)) for member in self.members]

    @staticmethod
    def _tls(ca, cert=None, key=None):
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert, key)
        return context

    async def _live(self, member):
        loop = asyncio.get_running_loop()
        try:
            async with self.gate:
                await asyncio.wait_for(self._open(member), TIMEOUT)
            member.is_there = True
            await getattr(self, f"_{self.kind}")(member)
            member.how = member.how or "closed"
        except asyncio.CancelledError:
            member.how = "left"
            raise
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            member.how = f"{type(error).__name__}"
        finally:
            member.ended = loop.time()
            if member.writer is not None:
                member.writer.transport.abort()

    async def _open(self, member):
        member.opened = asyncio.get_running_loop().time()
        if self.kind == "deaf":
            return
        options = {"host": self.address[0], "port": self.address[1], "local_addr": self.source}
        if self.kind == "deaf_tls":
            stream = socket.socket()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            stream.setblocking(False)
            await asyncio.get_running_loop().sock_connect(stream, self.address)
            options = {"sock": stream, "limit": 1, "server_hostname": self.address[0]}
        member.reader, member.writer = await asyncio.open_connection(**options, ssl=self.tls)
        if self.tls:
            shown = member.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            member.certificate = hashlib.sha256(shown).hexdigest()
        if self.kind == "mqtt":
            await self._log_in(member)

    async def _until_closed(self, member):
        while data := await member.reader.read(65_536):
            member.total += len(data)
            member.received = (member.received + data)[:256]

    async def _silent(self, member):
        """Says `first`, and nothing more."""
        member.writer.write(bytes.fromhex(self.options.get("first", "")))
        await self._until_closed(member)

    async def _dribble(self, member):
        """Says `first` at once, then one byte of `rest` each `interval` seconds."""

        async def talk():
            for byte in bytes.fromhex(self.options["rest"]):
                await asyncio.sleep(self.options["interval"])
                member.writer.write(bytes([byte]))

        member.writer.write(bytes.fromhex(self.options.get("first", "")))
        talking = asyncio.create_task(talk())
        try:
            await self._until_closed(member)
        finally:
            talking.cancel()

    async def _deaf(self, member):
        """Asks `first` again and again, and never reads an answer."""
        loop = asyncio.get_running_loop()
        stream = socket.socket()
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            stream.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(stream, self.address), TIMEOUT)
            asking = asyncio.create_task(self._ask_on(stream))
            poll = select.poll()
            poll.register(stream, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
            while not poll.poll(0):
                await asyncio.sleep(0.1)
            asking.cancel()
        finally:
            stream.close()

    async def _deaf_tls(self, member):
        """Asks `first` `times` times over TLS and reads no answer; further bytes show when nobody is there any more."""
        member.writer.write(bytes.fromhex(self.options["first"]) * self.options["times"])
        while not member.writer.transport.is_closing():
            await asyncio.sleep(0.2)
            member.writer.write(b"x")

    async def _ask_on(self, stream):
        loop = asyncio.get_running_loop()
        first = bytes.fromhex(self.options["first"])
        try:
            while True:
                await loop.sock_sendall(stream, first)
                await asyncio.sleep(0)
        except OSError:
            pass

    async def _log_in(self, member):
        client = f"{self.options.get('client', 'crowd')}-{member.number}"
        user, password = self.options.get("user"), self.options.get("password")
        flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
        body = text("MQTT") + bytes([4, flags, 0, 60]) + text(client)
        body += b"".join(text(value) for value in (user, password) if value is not None)
        length = len(body)
        size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
        member.writer.write(b"\x10" + size + body)
        answer = await member.reader.readexactly(4)
        if answer != b"\x20\x02\x00\x00":
            raise ConnectionRefusedError(answer.hex())

    async def _mqtt(self, member):
        """Is logged in, and answers nothing but counts PINGRESP."""
        while data := await member.reader.read(4_096):
            member.pongs += data.count(b"\xd0\x00")

    async def ping(self, timeout=TIMEOUT):
        """Sends PINGREQ on each connection that is there and returns how many were answered."""
        there = [member for member in self.members if member.ended is None]
        for member in there:
            member.pongs = 0
            member.writer.write(b"\xc0\x00")
        await wait_until(lambda: all(member.pongs for member in there), timeout)
        return sum(1 for member in there if member.pongs)

    def report(self):
        """Returns how many are there, how the others ended and how long they lasted."""
        ended = [member for member in self.members if member.ended is not None]
        lasted = sorted(member.ended - member.opened for member in ended if member.opened)
        how = {}
        for member in ended:
            how[member.how] = how.get(member.how, 0) + 1
        answers = {member.received[:64].decode("latin-1") for member in self.members if member.received}
        return {
            "open": sum(1 for member in self.members if member.opened) - len(ended),
            "ended": len(ended),
            "how": how,
            "shortest": lasted[0] if lasted else None,
            "longest": lasted[-1] if lasted else None,
            "answers": sorted(answers)[:10],
            "answered": sum(1 for member in self.members if member.received),
            "certificates": sorted({member.certificate for member in self.members if member.certificate}),
        }


class Crowds:
    """All crowds by name."""

    def __init__(self):
        self.crowds = {}

    def gather(self, name, **options):
        """Starts a crowd; its connections are opened in the background."""
        self.crowds[name] = Crowd(**options)

    async def ready(self, name, timeout=60.0):
        """Waits until each connection has been opened, or has failed to be; returns the report."""
        crowd = self.crowds[name]
        if not await wait_until(lambda: all(m.is_there or m.ended is not None for m in crowd.members), timeout):
            raise TimeoutError(f"not all of {name}: {crowd.report()}")
        return crowd.report()

    async def over(self, name, timeout):
        """Waits until all connections have ended; returns the report."""
        crowd = self.crowds[name]
        if not await wait_until(lambda: all(m.ended is not None for m in crowd.members), timeout):
            raise TimeoutError(f"{name} is not over: {crowd.report()}")
        return crowd.report()

    def report(self, name):
        return self.crowds[name].report()

    async def ping(self, name):
        return await self.crowds[name].ping()

    async def leave(self, name):
        """Breaks all connections."""
        crowd = self.crowds[name]
        for task in crowd.tasks:
            task.cancel()
        await asyncio.gather(*crowd.tasks, return_exceptions=True)


async def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowds = Crowds()
    names = ("gather", "ready", "over", "report", "ping", "leave")
    await serve({name: getattr(crowds, name) for name in names})


if __name__ == "__main__":
    asyncio.run(main())
