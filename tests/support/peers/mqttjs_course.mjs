// MQTT.js through one course: QoS 0, 1 and 2 both ways, a retained message, a large one, a session that is taken up
// again, MQTT 5 properties with topic aliases; and then it is gone without a word, so that its will is due.
//
// Usage: node mqttjs_course.mjs FOLDER URL VERSION PREFIX, where FOLDER holds `node_modules`, and the version is as on the
// wire: 4 or 5. Says what went wrong, and exits with 1.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [folder, url, versionText, prefix] = process.argv.slice(2);
const version = Number(versionText);
const mqtt = createRequire(`${folder}/`)("mqtt");

const TIMEOUT_MS = 20_000;
setTimeout(() => fail(new Error("the course takes too long")), 2 * TIMEOUT_MS).unref();

function fail(error) {
  console.error(`MQTT.js, version ${version}:`, error);
  process.exit(1);
}

/** Connects; what comes is kept until `expect` asks for it. */
async function join(name, options) {
  const client = mqtt.connect(url, {
    clientId: `${prefix}/${name}`,
    protocolVersion: version,
    reconnectPeriod: 0,
    connectTimeout: TIMEOUT_MS,
    ...options,
  });
  const messages = [];
  const waiting = [];
  client.on("message", (topic, payload, packet) => {
    messages.push({ topic, payload, packet });
    waiting.splice(0).forEach((wake) => wake());
  });
  client.on("error", fail);
  const connack = await new Promise((resolve) => client.once("connect", resolve));
  const next = async () => {
    while (messages.length === 0) {
      await new Promise((resolve) => waiting.push(resolve));
    }
    return messages.shift();
  };
  return { client, connack, next };
}

async function expect(from, topic, size, qos, retain) {
  const { topic: found, payload, packet } = await from.next();
  assert.deepEqual([found, payload.length, packet.qos, packet.retain], [topic, size, qos, retain]);
  if (version === 5) {
    assert.equal(packet.properties.userProperties.origin, "mqtt.js");
    assert.equal(packet.properties.responseTopic, `${prefix}/answer`);
  }
}

const properties =
  version === 5
    ? { properties: { userProperties: { origin: "mqtt.js" }, responseTopic: `${prefix}/answer`, messageExpiryInterval: 60 } }
    : {};

async function course() {
  const five = version === 5;
  const main = await join("main", {
    clean: true,
    will: { topic: `${prefix}/will`, payload: "gone", qos: 1 },
    ...(five ? { properties: { topicAliasMaximum: 10 }, autoAssignTopicAlias: true, autoUseTopicAlias: true } : {}),
  });
  await main.client.subscribeAsync(`${prefix}/echo/#`, { qos: 2 });
  // Twice, so that the second of each may come and go by its alias; but for QoS 2, where this client (5.16.0) forgets the
  // topic of an alias between PUBLISH and PUBREL.
  for (const round of [1, 2]) {
    for (const qos of round === 1 ? [0, 1, 2] : [0, 1]) {
      await main.client.publishAsync(`${prefix}/echo/${qos}`, "x".repeat(round), { qos, ...properties });
      await expect(main, `${prefix}/echo/${qos}`, round, qos, false);
    }
  }
  await main.client.publishAsync(`${prefix}/echo/large`, Buffer.alloc(200_000, "x"), { qos: 1, ...properties });
  await expect(main, `${prefix}/echo/large`, 200_000, 1, false);
  await main.client.publishAsync(`${prefix}/retained`, "kept", { qos: 1, retain: true, ...properties });
  await main.client.subscribeAsync(`${prefix}/retained`, { qos: 1 });
  await expect(main, `${prefix}/retained`, 4, 1, true);
  // All at once, as this client does it: it counts no receive maximum, which 3.1.1 does not have.
  const many = Array.from({ length: five ? 50 : 500 }, () =>
    main.client.publishAsync(`${prefix}/many`, "m", { qos: 2, ...properties }),
  );
  await Promise.all(many);

  const lasting = { clean: false, ...(five ? { properties: { sessionExpiryInterval: 60 } } : {}) };
  const keeper = await join("keeper", lasting);
  assert.equal(keeper.connack.sessionPresent, false);
  await keeper.client.subscribeAsync(`${prefix}/kept`, { qos: 2 });
  await keeper.client.endAsync();
  await main.client.publishAsync(`${prefix}/kept`, "one", { qos: 1, ...properties });
  await main.client.publishAsync(`${prefix}/kept`, "second", { qos: 2, ...properties });
  const again = await join("keeper", lasting);
  assert.equal(again.connack.sessionPresent, true);
  await expect(again, `${prefix}/kept`, 3, 1, false);
  await expect(again, `${prefix}/kept`, 6, 2, false);
  process.exit(0);
}

course().catch(fail);
