// Reads what an uplink of Tidegate publishes: formats `columns`, `packed`, `message` and `json`, as
// docs/telemetry-envelope.md lays them down. No dependencies; Node.js 18 or later, and browsers.
//
// A payload is not trusted: what it may inflate to, how deep it may go and how many elements it may have is
// limited before anything is built from it.

import { inflate, InflateError, TooMuchError } from "./inflate.mjs";
import { parseJson } from "./json.mjs";
import { BsonDocument, BsonDatetime, BsonReader, Unsupported, looksLikeBson } from "./bson.mjs";
import { DecodeError } from "./error.mjs";

export { DecodeError };

/** What a payload may be at most. */
export const LIMITS = Object.freeze({
  /** Bytes as received. */
  wire: 16 << 20,
  /** Bytes after decompression. */
  inflated: 64 << 20,
  /** How many times more bytes there may be after decompression than before. */
  ratio: 1032,
  /** How many documents and arrays may stand inside each other. */
  depth: 64,
  /** Elements of all documents and arrays, and packed readings, together. */
  elements: 1 << 20,
});

const LEVELS = new Map([
  ["bson", "identity"], ["json", "identity"], ["bson.z", "zlib"], ["json.z", "zlib"],
  ["bson.gz", "gzip"], ["json.gz", "gzip"],
]);

/**
 * One reading. The same gateway, uplink, epoch, stream and number always carry the same reading: use them to
 * drop repetitions.
 */
export class Reading {
  constructor(batch, members) {
    /** The id of the gateway; null in the formats `message` and `json`. */
    this.gateway = batch.gateway;
    /** The name of the uplink; null in the formats `message` and `json`. */
    this.uplink = batch.uplink;
    /** The epoch, a bigint. */
    this.epoch = batch.epoch;
    /** The local topic; in the formats `message` and `json` the topic that was handed in. */
    this.stream = members.stream;
    /** Counted up by one in each stream of an epoch, a bigint. */
    this.number = members.number;
    /** Microseconds since 1970, UTC, a bigint. */
    this.timeMicros = members.timeMicros;
    /**
     * null, boolean, number, bigint (an integer that a number does not hold exactly), string, Uint8Array,
     * array or object.
     */
    this.value = members.value;
    /** The unit, or null. */
    this.unit = members.unit;
    /** The OPC UA status code; 0 is good. */
    this.status = members.status;
    /** When a stretch without data ended that began at `timeMicros`, or null. */
    this.untilMicros = members.untilMicros;
    /** Whether the reading waited for an outage to end. */
    this.replayed = members.replayed;
    /** Whether the gateway's clock was set when it stamped the reading. */
    this.clockTrusted = batch.clockTrusted;
  }

  /** The time, to the millisecond. */
  get time() {
    return new Date(Number(this.timeMicros / 1000n));
  }

  /** "good", "uncertain" or "bad". */
  get quality() {
    return ["good", "uncertain", "bad", "bad"][this.status >>> 30];
  }

  /** A text that is the same for repetitions of this reading, and for them only. */
  get key() {
    const { gateway, uplink, epoch, stream, number } = this;
    return JSON.stringify([gateway, uplink, String(epoch), stream, String(number)]);
  }
}

/**
 * Returns an iterator over the readings of `payload`, a Uint8Array. Throws DecodeError before the first one.
 *
 * `contentEncoding` is what the MQTT 5 user property says: "zlib", "gzip", or null where there is none. Without
 * it, a level `bson.z`, `bson.gz`, `json.z` or `json.gz` of `topic` says the same. "auto" goes by the first
 * bytes, for receivers that are told nothing.
 */
export function decode(payload, contentEncoding = null, topic = null, limits = LIMITS) {
  return decodeBatch(payload, contentEncoding, topic, limits).readings[Symbol.iterator]();
}

/**
 * Returns all that `payload` says: gateway, uplink, epoch, seq, clockTrusted, readings, and gaps
 * `{stream, first, last, why}`. Throws DecodeError.
 */
export function decodeBatch(payload, contentEncoding = null, topic = null, limits = LIMITS) {
  limits = { ...LIMITS, ...limits };
  if (!(payload instanceof Uint8Array)) throw new DecodeError("is not a Uint8Array");
  if (payload.length > limits.wire) {
    throw new DecodeError(`is ${payload.length} bytes long, at most ${limits.wire} are allowed`);
  }
  const plain = unwrap(payload, contentEncoding, topic, limits);
  const first = plain.find((byte) => ![9, 10, 12, 13, 32].includes(byte));
  if (first === 0x7b && !looksLikeBson(plain)) return jsonRow(plain, topic, limits);
  const reader = new BsonReader(plain, limits);
  const document = reader.document();
  const isVersion1 = document.members[0]?.[1] === 1n;
  if (!isVersion1 || !document.members.some(([name]) => name === "s")) return bsonRow(document, topic);
  return columns(document, limits.elements - reader.elements);
}

function unwrap(payload, contentEncoding, topic, limits) {
  let encoding = contentEncoding;
  if (encoding == null && topic != null) {
    encoding = topic.split("/").map((level) => LEVELS.get(level)).find((found) => found) ?? null;
  }
  if (encoding === "auto") encoding = looksLikeBson(payload) ? null : wrapping(payload);
  if (encoding == null || encoding === "identity") return payload;
  if (encoding !== "zlib" && encoding !== "gzip") {
    throw new DecodeError(`has the unknown encoding ${JSON.stringify(encoding)}`);
  }
  const most = Math.min(limits.inflated, payload.length * limits.ratio);
  try {
    return inflate(payload, encoding, most);
  } catch (error) {
    if (error instanceof TooMuchError) {
      throw new DecodeError(most === limits.inflated
        ? `inflates to more than ${limits.inflated} bytes`
        : `inflates to more than ${limits.ratio} times its size`);
    }
    if (error instanceof InflateError) throw new DecodeError(`is not a ${encoding} stream: ${error.message}`);
    throw error;
  }
}

function wrapping(payload) {
  const [first, second, third] = payload;
  if (first === 0x1f && second === 0x8b && third === 8) return "gzip";
  if (payload.length >= 2 && (first & 15) === 8 && (first << 8 | second) % 31 === 0) return "zlib";
  return null;
}

const wrap = (number) => BigInt.asIntN(64, number);
const MIN = -(1n << 63n);
const MAX = (1n << 63n) - 1n;
const clamp = (number) => (number < MIN ? MIN : number > MAX ? MAX : number);
const micros = (millis) => clamp(millis * 1000n);
const isInteger = (value) => typeof value === "bigint";

/** Turns what BSON holds into what a reading holds. */
function toValue(value) {
  if (typeof value === "bigint") return friendly(value);
  if (value instanceof BsonDatetime) return rfc3339(micros(value.millis));
  if (value instanceof Unsupported) throw new DecodeError("has a decimal128 that is not an integer");
  if (Array.isArray(value)) return value.map(toValue);
  if (value instanceof BsonDocument) {
    const object = Object.create(null);
    for (const [name, member] of value.members) {
      if (name in object) throw new DecodeError("has a name twice in one document");
      object[name] = toValue(member);
    }
    return object;
  }
  return value;
}

/** An integer as a number, if that holds it exactly. */
function friendly(integer) {
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

function rfc3339(time) {
  const least = -62167219200000000n;
  const most = 253402300799999999n;
  const clamped = time < least ? least : time > most ? most : time;
  const fraction = ((clamped % 1000n) + 1000n) % 1000n;
  const text = new Date(Number((clamped - fraction) / 1000n)).toISOString();
  return fraction === 0n ? text : `${text.slice(0, -1)}${String(fraction).padStart(3, "0")}Z`;
}

function columns(document, budget) {
  const batch = { gateway: null, uplink: null, epoch: 0n, seq: null, clockTrusted: true, readings: [], gaps: [] };
  let base = 0n;
  let inMicros = false;
  let streams = null;
  for (const [name, member] of document.members) {
    if (name === "v") {
      if (member !== 1n) throw new DecodeError("is not version 1 of the envelope");
    } else if (name === "tu") {
      if (member !== 0n && member !== 3n) throw new DecodeError("the unit of time `tu` is not known");
      inMicros = member === 3n;
    } else if (name === "gw" && typeof member === "string") batch.gateway = member;
    else if (name === "up" && typeof member === "string") batch.uplink = member;
    else if (name === "ep" && isInteger(member)) batch.epoch = member;
    else if (name === "seq" && isInteger(member)) batch.seq = member;
    else if (name === "t0" && member instanceof BsonDatetime) base = micros(member.millis);
    else if (name === "ct" && typeof member === "boolean") batch.clockTrusted = member;
    else if (name === "s" && Array.isArray(member)) streams = member;
    else if (name === "gaps" && Array.isArray(member)) batch.gaps = member.map(gap);
  }
  if (streams === null) throw new DecodeError("has no streams `s`");
  for (const entry of streams) {
    if (!(entry instanceof BsonDocument)) throw new DecodeError("a stream in `s` is not a document");
    const stream = readStream(entry, budget);
    if (stream.isPacked) budget -= stream.times.length;
    stream.times.forEach((after, index) => {
      const { status, until } = stream.statuses.get(index) ?? { status: 0, until: null };
      batch.readings.push(new Reading(batch, {
        stream: stream.name,
        number: stream.first + BigInt(index),
        timeMicros: inMicros ? wrap(base + after) : clamp(base + micros(after)),
        value: toValue(stream.values[index]),
        unit: stream.unit,
        status,
        untilMicros: until,
        replayed: stream.replayed,
      }));
    });
  }
  return batch;
}

function readStream(entry, budget) {
  const found = { n: null, u: null, i: null, dt: undefined, x: undefined, k: null, e: 0n, q: [], r: false };
  for (const [name, member] of entry.members) {
    const fits = {
      n: typeof member === "string",
      u: typeof member === "string",
      i: isInteger(member),
      dt: true,
      x: true,
      k: isInteger(member),
      e: isInteger(member),
      q: Array.isArray(member),
      r: typeof member === "boolean",
    };
    if (Object.hasOwn(fits, name) && fits[name]) found[name] = member;
  }
  for (const name of ["n", "i", "dt", "x"]) {
    if (found[name] == null) throw new DecodeError(`a stream has no \`${name}\``);
  }
  const isPacked = found.dt instanceof Uint8Array;
  let times = found.dt;
  if (isPacked) times = differences(found.dt, "dt", budget);
  else if (!Array.isArray(times)) throw new DecodeError("a stream has no `dt`");
  else if (!times.every(isInteger)) throw new DecodeError("a time in `dt` is not an integer");
  let values = found.x;
  if (found.k !== null) values = unpack(Number(found.k), Number(found.e), times.length, found.x);
  else if (!Array.isArray(values)) throw new DecodeError("a stream has no `x`");
  if (times.length !== values.length) throw notAsMany();
  if (found.i + BigInt(times.length) > MAX) throw new DecodeError("the number `i` of a stream is too large");
  const statuses = readStatuses(found.q, times.length);
  const { n: name, u: unit, i: first, r: replayed } = found;
  return { name, unit, first, replayed, isPacked, times, values, statuses };
}

const notAsMany = () => new DecodeError("a stream has not as many times as values");

function readStatuses(array, readings) {
  const wrong = new DecodeError("a status in `q` is wrong");
  const statuses = new Map();
  for (const entry of array) {
    if (!(entry instanceof BsonDocument)) throw wrong;
    const [at, code, until] = ["at", "status", "until"].map((name) => entry.first(name));
    if (!isInteger(at) || !isInteger(code)) throw wrong;
    if (at < 0n || at >= BigInt(readings) || code < 0n || code >= 1n << 32n) throw wrong;
    const before = statuses.get(Number(at))?.until ?? null;
    const end = until instanceof BsonDatetime ? micros(until.millis) : before;
    statuses.set(Number(at), { status: Number(code), until: end });
  }
  return statuses;
}

function gap(entry) {
  if (entry instanceof BsonDocument) {
    const [stream, first, last, why] = ["n", "from", "to", "why"].map((name) => entry.first(name));
    if (typeof stream === "string" && isInteger(first) && isInteger(last) && typeof why === "string") {
      return { stream, first, last, why };
    }
  }
  throw new DecodeError("a gap in `gaps` is wrong");
}

/** Undoes zigzag LEB128 differences, modulo 2^64. */
function differences(bytes, name, most) {
  const numbers = [];
  let last = 0n;
  for (let at = 0; at < bytes.length;) {
    // Four bytes fit into a number; what is longer is rare.
    let low = 0;
    let shift = 0;
    let number = null;
    for (;;) {
      if (at >= bytes.length) throw new DecodeError(`the numbers in \`${name}\` are broken off`);
      const byte = bytes[at++];
      if (shift < 28) low |= (byte & 0x7f) << shift;
      else {
        if (shift === 63 && byte > 1) throw new DecodeError(`the numbers in \`${name}\` are broken off`);
        number = (number ?? BigInt(low)) | BigInt(byte & 0x7f) << BigInt(shift);
      }
      shift += 7;
      if (byte < 0x80) break;
    }
    if (numbers.length >= most) {
      throw name === "dt" ? new DecodeError("has more readings than are allowed") : notAsMany();
    }
    const step = number === null ? BigInt(low >>> 1 ^ -(low & 1)) : number >> 1n ^ -(number & 1n);
    last = wrap(last + step);
    numbers.push(last);
  }
  return numbers;
}

const POWERS = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
  1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

function unpack(kind, exponent, count, values) {
  if ((kind === 6 || kind === 7) && Array.isArray(values)) {
    if (kind === 6 && !values.every((value) => typeof value === "string")) {
      throw new DecodeError("a value in `x` is not a string");
    }
    return values;
  }
  if (!(kind >= 1 && kind <= 8)) throw new DecodeError(`a stream is packed as kind ${kind}, not known here`);
  if (!(values instanceof Uint8Array)) {
    throw new DecodeError("the values `x` of a stream are not what `k` says");
  }
  if (kind === 4) return differences(values, "x", count);
  if (kind === 1 || kind === 8) {
    const power = POWERS[exponent];
    if (power === undefined) throw new DecodeError("an exponent `e` is out of range");
    const doubles = differences(values, "x", count).map((integer) => Number(integer) / power);
    return kind === 1 ? doubles : doubles.map(Math.fround);
  }
  const view = new DataView(values.buffer, values.byteOffset, values.length);
  const size = { 2: 8, 3: 4, 5: 1 / 8 }[kind];
  if (values.length !== Math.ceil(count * size)) throw notAsMany();
  const read = {
    2: (at) => view.getFloat64(at * 8, true),
    3: (at) => view.getFloat32(at * 4, true),
    5: (at) => (values[at >> 3] >> (at & 7) & 1) === 1,
  }[kind];
  return Array.from({ length: count }, (_, at) => read(at));
}

function finishRow(row, topic) {
  for (const name of ["i", "t", "v"]) {
    if (!row.has(name)) throw new DecodeError(`has no \`${name}\``);
  }
  const batch = {
    gateway: null, uplink: null, epoch: row.get("ep") ?? 0n, seq: null, clockTrusted: row.get("ct") ?? true,
    readings: [], gaps: [],
  };
  batch.readings.push(new Reading(batch, {
    stream: topic,
    number: row.get("i"),
    timeMicros: row.get("t"),
    value: row.get("v"),
    unit: row.get("u") ?? null,
    status: row.get("q") ?? 0,
    untilMicros: row.get("until") ?? null,
    replayed: false,
  }));
  return batch;
}

function statusCode(code) {
  if (code < 0n || code >= 1n << 32n) throw new DecodeError("the status `q` is wrong");
  return Number(code);
}

function bsonRow(document, topic) {
  const row = new Map();
  for (const [name, member] of document.members) {
    if (name === "v") row.set(name, toValue(member));
    else if ((name === "t" || name === "until") && member instanceof BsonDatetime) {
      row.set(name, micros(member.millis));
    } else if (name === "u" && typeof member === "string") row.set(name, member);
    else if (name === "q" && isInteger(member)) row.set(name, statusCode(member));
    else if ((name === "ep" || name === "i") && isInteger(member)) row.set(name, member);
    else if (name === "ct" && typeof member === "boolean") row.set(name, member);
  }
  return finishRow(row, topic);
}

function jsonRow(plain, topic, limits) {
  const document = parseJson(plain, limits.depth);
  const row = new Map();
  let isBase64 = false;
  for (const name of Object.keys(document)) {
    const member = document[name];
    // Integers of JSON come as they are written: as bigint or, with a fraction or exponent, as number.
    const integer = isInteger(member) && member >= MIN && member <= MAX;
    if (name === "v") row.set(name, jsonValue(member));
    else if ((name === "t" || name === "until") && typeof member === "string") row.set(name, parseTime(member));
    else if (name === "u" && typeof member === "string") row.set(name, member);
    else if (name === "q" && integer) row.set(name, statusCode(member));
    else if ((name === "ep" || name === "i") && integer) row.set(name, member);
    else if (name === "ct" && typeof member === "boolean") row.set(name, member);
    else if (name === "encoding") isBase64 = member === "base64";
  }
  if (isBase64 && typeof row.get("v") === "string") row.set("v", fromBase64(row.get("v")));
  return finishRow(row, topic);
}

function jsonValue(value) {
  if (typeof value === "bigint") return friendly(value);
  if (Array.isArray(value)) return value.map(jsonValue);
  if (value !== null && typeof value === "object") {
    const object = Object.create(null);
    for (const name of Object.keys(value)) object[name] = jsonValue(value[name]);
    return object;
  }
  return value;
}

function fromBase64(text) {
  try {
    const binary = atob(text);
    if (btoa(binary) === text) return Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    // Told below.
  }
  throw new DecodeError("the value `v` is not base64");
}

const TIME = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))$/;

function parseTime(text) {
  const wrong = new DecodeError(`\`${text.slice(0, 64)}\` is not a time like 2026-03-01T12:00:00.123Z`);
  const found = TIME.exec(text);
  if (found === null) throw wrong;
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map(Number);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) throw wrong;
  if (hour > 23 || minute > 59 || second > 59) throw wrong;
  let seconds = BigInt(date.getTime() / 1000) + BigInt(hour * 3600 + minute * 60 + second);
  if (found[8] !== undefined) {
    const [hours, minutes] = [Number(found[9]), Number(found[10])];
    if (hours > 23 || minutes > 59) throw wrong;
    const offset = BigInt(hours * 3600 + minutes * 60);
    seconds += found[8] === "-" ? offset : -offset;
  }
  return seconds * 1000000n + BigInt((found[7] ?? "").padEnd(6, "0").slice(0, 6));
}
