"""The frame of every peer: requests as JSON lines on standard input, answers on standard output.

The first line out is {"ready": true, ...facts}. A request is {"id": 7, "do": "read", ...arguments}; its answer is
{"id": 7, "ok": ...} or {"id": 7, "error": "..."}. Requests run side by side, so a long wait delays no other. The peer
ends when its standard input does, that is with the test that started it.
"""

import asyncio
import json
import sys
from datetime import datetime, timedelta, timezone

LINE_BYTES_MAX = 64 * 1024 * 1024
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def send(message):
    """Writes one line at once."""
    sys.stdout.write(json.dumps(message, allow_nan=False) + "\n")
    sys.stdout.flush()


async def serve(handlers, **facts):
    """Announces the peer, then answers requests by the coroutine or function that `handlers` names."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    send({"ready": True, **facts})
    running = set()
    while line := await reader.readline():
        task = asyncio.create_task(_answer(handlers, json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


async def _answer(handlers, request):
    number = request.pop("id")
    name = request.pop("do")
    try:
        if name not in handlers:
            raise ValueError(f"unknown request {name!r}; known: {', '.join(sorted(handlers))}")
        result = handlers[name](**request)
        if asyncio.iscoroutine(result):
            result = await result
        answer = {"id": number, "ok": result}
    except Exception as error:  # the far end decides what a failure means
        answer = {"id": number, "error": f"{type(error).__name__}: {error}"}
    send(answer)


async def wait_until(condition, timeout):
    """Waits until `condition()` holds; returns whether it did within `timeout` seconds."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


class Series:
    """Numbered messages sent one after another in the background, with a ledger of what was acknowledged.

    A number enters `acked` at the moment its acknowledgement arrives. One that was refused or not answered enters
    `unanswered`, the only numbers that may arrive twice, and is sent again or given up as `retry` says. This is the
    recipe R1 of docs/fault-catalogue.md.
    """

    def __init__(self, send_one, first, count, interval, retry):
        self.acked = []
        self.unanswered = set()
        self.attempts = 0
        self._stop = False
        self._task = asyncio.create_task(self._run(send_one, first, count, interval, retry))

    async def _run(self, send_one, first, count, interval, retry):
        number = first
        while number < first + count and not self._stop:
            self.attempts += 1
            try:
                accepted = await send_one(number)
            except (OSError, asyncio.TimeoutError):
                accepted = False
            if accepted:
                self.acked.append(number)
            else:
                self.unanswered.add(number)
                await asyncio.sleep(0.02)
                if retry and not self._stop:
                    continue
            number += 1
            if interval:
                await asyncio.sleep(interval)

    def state(self):
        """Returns the ledger; an error of the sender itself comes up here."""
        done = self._task.done()
        if done and not self._task.cancelled():
            self._task.result()
        return {
            "acked": self.acked,
            "unanswered": sorted(self.unanswered),
            "attempts": self.attempts,
            "done": done,
        }

    async def stop(self):
        """Ends after the message under way and returns the ledger."""
        self._stop = True
        await asyncio.wait([self._task])
        return self.state()


class AllSeries:
    """The requests `series`, `series_state`, `series_wait` and `series_stop`, for every peer that sends."""

    def __init__(self, make_sender):
        self._make_sender = make_sender
        self._series = {}

    def handlers(self):
        return {
            "series": self.start,
            "series_state": lambda name: self._series[name].state(),
            "series_wait": self.wait,
            "series_stop": lambda name: self._series[name].stop(),
        }

    def start(self, name, count, first=1, interval=0.0, retry=True, **arguments):
        """Starts a series; `{n}` in its text arguments stands for the number."""
        if name in self._series and not self._series[name].state()["done"]:
            raise ValueError(f"the series {name!r} is still running")
        sender = self._make_sender(**arguments)
        self._series[name] = Series(sender, first, count, interval, retry)

    async def wait(self, name, acked, timeout=20.0):
        """Waits until at least `acked` messages are acknowledged."""
        series = self._series[name]
        if not await wait_until(lambda: len(series.acked) >= acked or series.state()["done"], timeout):
            raise TimeoutError(f"{len(series.acked)} of {acked} acknowledged")
        return series.state()


def parse_time(text):
    """Reads RFC 3339 with up to microseconds."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def format_time(moment):
    """Writes RFC 3339 in UTC with microseconds."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_us(microseconds):
    """Writes microseconds since 1970 as `format_time` does, where a calendar date can hold them."""
    try:
        return format_time(EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        return None
