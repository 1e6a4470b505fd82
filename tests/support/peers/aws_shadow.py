"""Device shadows, from the pages "Device Shadow MQTT topics" and "Device Shadow service documents" of AWS IoT Core.

Documents are kept as the service keeps them: what is desired and reported, with a time for each value and a version that
rises with each update. What a request gets for an answer is made here; `aws_iot_core.py` publishes it.
"""

import copy
import json
import re
import time

from aws_limits import JITTER, Bucket

STATE_BYTES = 8 * 1024
LEVELS = 8
IN_FLIGHT = 10
REQUESTS_PER_SECOND = 20
TOKEN_BYTES = 64
TOPIC = re.compile(r"\$aws/things/([\w:-]{1,128})/shadow(?:/name/([\w:-]{1,64}))?/(update|get|delete)")


class Rejected(Exception):
    """A request is answered with no."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Shadow:
    """One document."""

    def __init__(self):
        self.state = {"desired": {}, "reported": {}}
        self.metadata = {"desired": {}, "reported": {}}
        self.version = 0
        self.exists = False

    def delta(self):
        """Returns what is desired and not reported, and when it was desired."""
        return differing(self.state["desired"], self.state["reported"], self.metadata["desired"])

    def shown(self, what):
        return {section: part for section, part in what.items() if part}


class Shadows:
    """The shadows of things."""

    def __init__(self, things, clock=time.time):
        self.things = set(things)
        self.clock = clock
        self.documents = {}
        self.open = {}
        self.buckets = {}
        self.requests = []
        self.rejected = []
        self.most_open = 0
        # How many updates are refused, with which code and words.
        self.refusal = None

    def takes(self, topic):
        """Returns whether a topic is one of requests for a thing that there is."""
        found = TOPIC.fullmatch(topic)
        return bool(found) and found[1] in self.things

    def begin(self, topic):
        """Counts a request that is not answered yet; returns whether there are too many."""
        thing = TOPIC.fullmatch(topic)[1]
        self.open[thing] = self.open.get(thing, 0) + 1
        self.most_open = max(self.most_open, self.open[thing])
        bucket = self.buckets.setdefault(thing, Bucket(REQUESTS_PER_SECOND, JITTER))
        return not bucket.take(1) or self.open[thing] > IN_FLIGHT

    def end(self, topic):
        self.open[TOPIC.fullmatch(topic)[1]] -= 1

    def answer(self, topic, payload, is_too_much=False):
        """Returns what is published for a request: topics and objects."""
        thing, name, verb = TOPIC.fullmatch(topic).groups()
        self.requests.append([topic, payload.decode(errors="replace")])
        said = {}
        try:
            said = read(payload, verb)
            if is_too_much:
                raise Rejected(429, "Too many requests")
            if verb == "update":
                return self._update((thing, name), topic, said)
            answer = self._get((thing, name)) if verb == "get" else self._delete((thing, name))
        except Rejected as rejected:
            self.rejected.append([topic, rejected.code])
            answer = {"code": rejected.code, "message": str(rejected)}
            return [(f"{topic}/rejected", self._stamped(answer, said))]
        return [(f"{topic}/accepted", self._stamped(answer, said))]

    def _stamped(self, answer, said):
        token = {"clientToken": said["clientToken"]} if "clientToken" in said else {}
        return {**answer, "timestamp": int(self.clock()), **token}

    def desire(self, thing, name, desired):
        """Does what an application does that desires something; returns what is published."""
        prefix = f"$aws/things/{thing}/shadow" + (f"/name/{name}" if name else "")
        return self._update((thing, name), f"{prefix}/update", {"state": {"desired": desired}})

    def _update(self, place, topic, said):
        if self.refusal and self.refusal[2] > 0 and "reported" in said["state"]:
            code, message, times = self.refusal
            self.refusal = (code, message, times - 1)
            raise Rejected(code, message)
        shadow = self.documents.setdefault(place, Shadow())
        if "version" in said and said["version"] != shadow.version:
            raise Rejected(409, "Version conflict")
        now = int(self.clock())
        previous = {"state": copy.deepcopy(shadow.state), "version": shadow.version}
        state, metadata = copy.deepcopy(shadow.state), copy.deepcopy(shadow.metadata)
        changed = {}
        for section, part in said["state"].items():
            if part is None:
                state[section], metadata[section] = {}, {}
                continue
            changed[section] = merge(state[section], metadata[section], part, now)
        if len(json.dumps(state, separators=(",", ":")).encode()) > STATE_BYTES:
            raise Rejected(413, "The payload exceeds the maximum size allowed")
        shadow.state, shadow.metadata, shadow.exists = state, metadata, True
        shadow.version += 1
        accepted = {"state": said["state"], "metadata": changed, "version": shadow.version}
        published = [(f"{topic}/accepted", self._stamped(accepted, said))]
        current = {"state": state, "version": shadow.version}
        published.append((f"{topic}/documents", {"previous": previous, "current": current, "timestamp": now}))
        wanted, since = shadow.delta()
        if wanted:
            delta = {"version": shadow.version, "timestamp": now, "state": wanted, "metadata": since}
            published.append((f"{topic}/delta", delta))
        return published

    def _get(self, place):
        shadow = self._existing(place)
        state = shadow.shown(shadow.state)
        if wanted := shadow.delta()[0]:
            state["delta"] = wanted
        return {"state": state, "metadata": shadow.shown(shadow.metadata), "version": shadow.version}

    def _delete(self, place):
        shadow = self._existing(place)
        # The version goes on.
        self.documents[place] = fresh = Shadow()
        fresh.version = shadow.version + 1
        return {"version": shadow.version}

    def _existing(self, place):
        shadow = self.documents.get(place)
        if shadow is None or not shadow.exists:
            raise Rejected(404, f"No shadow exists with name: '{place[1] or place[0]}'")
        return shadow

    def report(self):
        documents = {}
        for (thing, name), shadow in self.documents.items():
            delta = shadow.delta()[0]
            documents[f"{thing}/{name or ''}"] = {**shadow.state, "delta": delta, "version": shadow.version}
        return {
            "documents": documents,
            "requests": self.requests,
            "rejected": self.rejected,
            "most_open": self.most_open,
        }


def read(payload, verb):
    """Returns a request as it was said, checked by its form."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise Rejected(415, "Unsupported documented encoding; supported encoding is UTF-8") from None
    if not text and verb != "update":
        return {}
    try:
        said = json.loads(text)
    except ValueError:
        raise Rejected(400, "Payload contains invalid json") from None
    known = {"state", "clientToken", "version"} if verb == "update" else {"clientToken", "version"}
    if not isinstance(said, dict) or not set(said) <= known:
        raise Rejected(400, "Invalid JSON")
    token = said.get("clientToken", "x")
    if not isinstance(token, str) or not 0 < len(token.encode()) <= TOKEN_BYTES:
        said.pop("clientToken")
        raise Rejected(400, "Invalid clientToken")
    if verb == "update":
        check_state(said.get("state"))
        if not isinstance(said.get("version", 0), int):
            raise Rejected(400, "Invalid version")
    return said


def check_state(state):
    if not isinstance(state, dict):
        raise Rejected(400, "Missing required node: state")
    if not state or not set(state) <= {"desired", "reported"}:
        raise Rejected(400, "State node must be an object with desired or reported")
    for part in state.values():
        if part is not None and not isinstance(part, dict):
            raise Rejected(400, "A section of the state must be an object")
        if levels(part) > LEVELS:
            raise Rejected(400, f"JSON contains too many levels of nesting; maximum is {LEVELS}")


def levels(value):
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (1 if isinstance(value, (dict, list)) else 0) + max(map(levels, below), default=0)


def merge(state, metadata, part, now):
    """Merges what is said into a section; returns the metadata of what was said."""
    said = {}
    for key, value in part.items():
        if value is None:
            state.pop(key, None)
            metadata.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(state.get(key), dict):
                state[key], metadata[key] = {}, {}
            said[key] = merge(state[key], metadata[key], value, now)
        else:
            state[key] = value
            said[key] = metadata[key] = stamps(value, now)
    return said


def stamps(value, now):
    return [stamps(each, now) for each in value] if isinstance(value, list) else {"timestamp": now}


def differing(desired, reported, metadata):
    """Returns the desired members that are not reported so, and their metadata."""
    wanted, since = {}, {}
    for key, value in desired.items():
        other = reported.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            below, stamped = differing(value, other, metadata[key])
            if below:
                wanted[key], since[key] = below, stamped
        elif value != other or isinstance(value, bool) != isinstance(other, bool):
            wanted[key], since[key] = value, metadata[key]
    return wanted, since
