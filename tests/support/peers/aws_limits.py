"""What AWS IoT Core takes, from its pages "AWS IoT Core endpoints and quotas", "MQTT" and "Device communication protocols".

Pure rules; `aws_iot_core.py` applies them to connections. Each refusal has the reason that the service's life cycle
events give to an operator, and for MQTT 5 the reason code of its DISCONNECT.
"""

import time

PAYLOAD_BYTES = 128 * 1024
TOPIC_BYTES = 256
TOPIC_SLASHES = 7
CLIENT_ID_BYTES = 128
KEEP_ALIVE = (30, 1200)
PUBLISHES_PER_SECOND = 100
BYTES_PER_SECOND = 512 * 1024
IN_FLIGHT = 100
SUBSCRIPTIONS = 50
FILTERS_PER_SUBSCRIBE = 8
USER_PROPERTY_BYTES = 8 * 1024
TOPIC_ALIASES = 8
CONNECTS_PER_SECOND = 1
SESSION_SECONDS = 3600
PROTOCOL = "x-amzn-mqtt-ca"
BASIC_INGEST = "$aws/rules/"

# What a sender cannot know: how long its packets were under way. So many may come early.
JITTER = 20


class Refusal(Exception):
    """The connection is closed: why, as an operator sees it, and with which reason code in MQTT 5."""

    def __init__(self, reason, detail, code):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.code = code


def check_client_id(client_id):
    if not client_id:
        raise Refusal("CLIENT_ERROR", "an empty client id", 0x85)
    if len(client_id.encode()) > CLIENT_ID_BYTES or client_id.startswith("$"):
        raise Refusal("CLIENT_ERROR", f"client id {client_id[:20]!r}", 0x85)


def check_topic(topic, what="topic", is_reserved=False):
    """Checks a topic or a filter by its length and its levels; topics of the service are for what it offers."""
    counted = topic
    if what == "topic":
        if topic.startswith(BASIC_INGEST):
            counted = topic[len(BASIC_INGEST) :].partition("/")[2]
        elif topic.startswith("$") and not is_reserved:
            raise Refusal("FORBIDDEN_ACCESS", f"reserved topic {topic[:40]!r}", 0x87)
        if "+" in topic or "#" in topic or not topic:
            raise Refusal("CLIENT_ERROR", f"no topic: {topic[:40]!r}", 0x90)
    elif topic.startswith("$share/"):
        counted = topic.split("/", 2)[2]
    if len(counted.encode()) > TOPIC_BYTES:
        raise Refusal("CLIENT_ERROR", f"{what} of {len(counted.encode())} bytes", 0x90)
    if counted.count("/") > TOPIC_SLASHES:
        raise Refusal("CLIENT_ERROR", f"{what} with {counted.count('/')} slashes", 0x90)


def check_publish(publish, is_reserved=False):
    """Checks what a publication must not be, whoever sends it."""
    if publish.qos > 1:
        raise Refusal("CLIENT_ERROR", f"quality of service {publish.qos}", 0x9B)
    if len(publish.payload) > PAYLOAD_BYTES:
        raise Refusal("CLIENT_ERROR", f"PAYLOAD_LIMIT_EXCEEDED: {len(publish.payload)} bytes", 0x95)
    check_topic(publish.topic, "topic", is_reserved)
    if publish.user_property_bytes > USER_PROPERTY_BYTES:
        raise Refusal("CLIENT_ERROR", f"{publish.user_property_bytes} bytes of user properties", 0x83)


def matches(topic_filter, topic):
    """Whether a filter matches; `a/#` does not match `a` here."""
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[2]
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return len(levels) > at
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)


class Policy:
    """What a certificate may do; everything else closes the connection."""

    def __init__(self, connect, publish, subscribe, retain=False):
        self.connect = connect
        self.publish = publish
        self.subscribe = subscribe
        self.retain = retain

    def check_publish(self, publish):
        if not any(matches(allowed, publish.topic) for allowed in self.publish):
            raise Refusal("FORBIDDEN_ACCESS", f"may not publish to {publish.topic[:60]!r}", 0x87)
        if publish.retain and not self.retain:
            raise Refusal("FORBIDDEN_ACCESS", f"may not retain on {publish.topic[:60]!r}", 0x87)

    def check_subscribe(self, topic_filter):
        if topic_filter not in self.subscribe:
            raise Refusal("FORBIDDEN_ACCESS", f"may not subscribe to {topic_filter[:60]!r}", 0x87)


class Bucket:
    """Holds a second's worth and `slack` more, and fills at the rate."""

    def __init__(self, rate, slack=0, now=time.monotonic):
        self.rate = rate
        self.most = rate + slack
        self.tokens = float(self.most)
        self.now = now
        self.at = now()

    def take(self, amount):
        """Takes what is there; returns whether all of it was."""
        self.fill()
        if self.tokens < amount:
            return False
        self.tokens -= amount
        return True

    def owe(self, amount):
        """Takes all of it in any case; returns how many seconds it takes until that is paid back."""
        self.fill()
        self.tokens -= amount
        return max(0.0, -self.tokens / self.rate)

    def fill(self):
        now = self.now()
        self.tokens = min(self.most, self.tokens + (now - self.at) * self.rate)
        self.at = now
