/*
 * Paho's C client, synchronous interface, through one course: QoS 0, 1 and 2 both ways, a retained message, a large
 * one, a session that is taken up again, MQTT 5 properties; and then it is gone without a word, so that its will is due.
 *
 * Usage: paho_course PORT VERSION PREFIX, with the version as on the wire: 4 or 5. Says what went wrong, and exits with 1.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <MQTTClient.h>

#define TIMEOUT_MS 20000L
#define LARGE_BYTES 200000

static int version;
static const char *prefix;

static void fail(const char *what, long code)
{
    fprintf(stderr, "paho C, version %d: %s: %ld\n", version, what, code);
    exit(1);
}

static void check(const char *what, long code)
{
    if (code != MQTTCLIENT_SUCCESS)
        fail(what, code);
}

static const char *topic(const char *rest)
{
    static char text[4][256];
    static int next;
    char *slot = text[next++ % 4];
    snprintf(slot, sizeof text[0], "%s/%s", prefix, rest);
    return slot;
}

static MQTTClient create(const char *name, const char *uri)
{
    MQTTClient client;
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    options.MQTTVersion = version;
    check("create", MQTTClient_createWithOptions(&client, uri, topic(name), MQTTCLIENT_PERSISTENCE_NONE, NULL, &options));
    return client;
}

/* Connects; returns whether the session was present. */
static int join(MQTTClient client, int clean, MQTTClient_willOptions *will)
{
    MQTTClient_connectOptions three = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions five = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions options = version == 5 ? five : three;
    options.keepAliveInterval = 30;
    options.connectTimeout = 20;
    options.will = will;
    if (version == 4) {
        options.cleansession = clean;
        options.MQTTVersion = MQTTVERSION_3_1_1;
        check("connect", MQTTClient_connect(client, &options));
        return options.returned.sessionPresent;
    }
    options.cleanstart = clean;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTProperty expiry;
    expiry.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL;
    expiry.value.integer4 = clean ? 0 : 60;
    check("expiry", MQTTProperties_add(&properties, &expiry));
    MQTTResponse response = MQTTClient_connect5(client, &options, &properties, NULL);
    check("connect", response.reasonCode);
    MQTTResponse_free(response);
    MQTTProperties_free(&properties);
    return options.returned.sessionPresent;
}

static void subscribe(MQTTClient client, const char *filter, int qos)
{
    if (version == 4) {
        check("subscribe", MQTTClient_subscribe(client, filter, qos));
        return;
    }
    MQTTResponse response = MQTTClient_subscribe5(client, filter, qos, NULL, NULL);
    if ((int)response.reasonCode != qos)
        fail("subscribe", response.reasonCode);
    MQTTResponse_free(response);
}

static void add(MQTTProperties *properties, enum MQTTPropertyCodes code, const char *name, const char *value)
{
    MQTTProperty property;
    property.identifier = code;
    property.value.data.data = (char *)name;
    property.value.data.len = (int)strlen(name);
    property.value.value.data = (char *)value;
    property.value.value.len = (int)strlen(value);
    check("property", MQTTProperties_add(properties, &property));
}

static void publish(MQTTClient client, const char *to, const void *payload, int size, int qos, int retained)
{
    MQTTClient_message message = MQTTClient_message_initializer;
    MQTTClient_deliveryToken token;
    message.payload = (void *)payload;
    message.payloadlen = size;
    message.qos = qos;
    message.retained = retained;
    if (version == 5) {
        add(&message.properties, MQTTPROPERTY_CODE_USER_PROPERTY, "origin", "paho-c");
        add(&message.properties, MQTTPROPERTY_CODE_CONTENT_TYPE, "text/plain", "");
        MQTTResponse response = MQTTClient_publishMessage5(client, to, &message, &token);
        check("publish", response.reasonCode);
        MQTTResponse_free(response);
        MQTTProperties_free(&message.properties);
    } else {
        check("publish", MQTTClient_publishMessage(client, to, &message, &token));
    }
    if (qos > 0)
        check("acknowledgement", MQTTClient_waitForCompletion(client, token, TIMEOUT_MS));
}

/* Waits for a message of this size and QoS. */
static void expect(MQTTClient client, const char *from, int size, int qos, int retained)
{
    char *found = NULL;
    int length = 0;
    MQTTClient_message *message = NULL;
    int code = MQTTClient_receive(client, &found, &length, &message, TIMEOUT_MS);
    if (code != MQTTCLIENT_SUCCESS && code != MQTTCLIENT_TOPICNAME_TRUNCATED)
        fail("receive", code);
    if (message == NULL)
        fail(from, -1000);
    if (strcmp(found, from) != 0)
        fail(found, -1001);
    if (message->payloadlen != size)
        fail("size", message->payloadlen);
    if (message->qos != qos)
        fail("QoS", message->qos);
    if (message->retained != retained)
        fail("retained", message->retained);
    if (version == 5 && !MQTTProperties_hasProperty(&message->properties, MQTTPROPERTY_CODE_USER_PROPERTY))
        fail("user property", 0);
    MQTTClient_freeMessage(&message);
    MQTTClient_free(found);
}

int main(int count, char **words)
{
    static char large[LARGE_BYTES];
    char uri[64];
    if (count != 4)
        return 64;
    version = atoi(words[2]);
    prefix = words[3];
    snprintf(uri, sizeof uri, "tcp://127.0.0.1:%s", words[1]);
    memset(large, 'x', sizeof large);

    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    char will_topic[256];
    snprintf(will_topic, sizeof will_topic, "%s", topic("will"));
    will.topicName = will_topic;
    will.message = "gone";
    will.qos = 1;
    MQTTClient main_client = create("main", uri);
    join(main_client, 1, &will);
    subscribe(main_client, topic("echo/#"), 2);
    for (int qos = 0; qos <= 2; qos++) {
        char to[256];
        snprintf(to, sizeof to, "%s/echo/%d", prefix, qos);
        publish(main_client, to, "hello", 5, qos, 0);
        expect(main_client, to, 5, qos, 0);
    }
    publish(main_client, topic("echo/large"), large, sizeof large, 1, 0);
    expect(main_client, topic("echo/large"), sizeof large, 1, 0);
    publish(main_client, topic("retained"), "kept", 4, 1, 1);
    subscribe(main_client, topic("retained"), 1);
    expect(main_client, topic("retained"), 4, 1, 1);

    MQTTClient keeper = create("keeper", uri);
    if (join(keeper, 0, NULL))
        fail("a session was there", 1);
    subscribe(keeper, topic("kept"), 2);
    check("disconnect", version == 5 ? MQTTClient_disconnect5(keeper, 1000, MQTTREASONCODE_SUCCESS, NULL)
                                     : MQTTClient_disconnect(keeper, 1000));
    publish(main_client, topic("kept"), "one", 3, 1, 0);
    publish(main_client, topic("kept"), "second", 6, 2, 0);
    /* With MQTT 5 this interface (1.3.12) does not say whether the session was present; what it kept tells. */
    if (!join(keeper, 0, NULL) && version == 4)
        fail("the session has gone", 0);
    expect(keeper, topic("kept"), 3, 1, 0);
    expect(keeper, topic("kept"), 6, 2, 0);
    fflush(NULL);
    _exit(0);
}
