// Reads one BSON 1.1 document that somebody else wrote: no length in it is trusted.

import { DecodeError } from "./error.mjs";

const TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** The upper half of a decimal128 with exponent 0. */
const DECIMAL128_EXPONENT_0 = 6176n << 49n;

/** The members of a document as pairs, in order. */
export class BsonDocument {
  constructor(members) {
    this.members = members;
  }

  /** Returns the first member of that name. */
  first(name) {
    return this.members.find(([found]) => found === name)?.[1];
  }
}

/** A time in milliseconds since 1970, a bigint. */
export class BsonDatetime {
  constructor(millis) {
    this.millis = millis;
  }
}

/** A value that may stand where nobody looks. */
export class Unsupported {}

/** Whether the length at the beginning is that of the payload. */
export function looksLikeBson(payload) {
  if (payload.length < 4) return false;
  return new DataView(payload.buffer, payload.byteOffset).getUint32(0, true) === payload.length;
}

/** A reader of one document. Integers come as bigint, so that they are told from doubles. */
export class BsonReader {
  constructor(data, limits) {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.length);
    this.limits = limits;
    this.elements = 0;
    this.at = 0;
  }

  document() {
    if (this.data.length < 5 || !looksLikeBson(this.data)) {
      throw new DecodeError("is not BSON: its length is wrong");
    }
    return new BsonDocument(this.members(this.data.length, 1));
  }

  members(limit, depth) {
    if (depth > this.limits.depth) throw new DecodeError(`has more than ${this.limits.depth} levels`);
    const start = this.at;
    this.need(5, limit);
    const length = this.view.getInt32(start, true);
    if (length < 5 || start + length > limit || this.data[start + length - 1] !== 0) throw this.malformed();
    const end = start + length - 1;
    this.at += 4;
    const members = [];
    while (this.at < end) {
      this.elements += 1;
      if (this.elements > this.limits.elements) {
        throw new DecodeError(`has more than ${this.limits.elements} elements`);
      }
      const kind = this.data[this.at];
      const stop = this.data.indexOf(0, this.at + 1);
      if (stop < 0 || stop >= end) throw this.malformed();
      const name = this.text(this.at + 1, stop);
      this.at = stop + 1;
      members.push([name, this.value(kind, end, depth)]);
    }
    this.at = end + 1;
    return members;
  }

  value(kind, end, depth) {
    switch (kind) {
      case 0x01: return this.view.getFloat64(this.skip(8, end), true);
      case 0x02: return this.string(end);
      case 0x03: return new BsonDocument(this.members(end, depth + 1));
      case 0x04: return this.members(end, depth + 1).map(([, value]) => value);
      case 0x05: return this.binary(end);
      case 0x08: {
        const byte = this.data[this.skip(1, end)];
        if (byte > 1) throw this.malformed();
        return byte === 1;
      }
      case 0x09: return new BsonDatetime(this.view.getBigInt64(this.skip(8, end), true));
      case 0x0a: return null;
      case 0x10: return BigInt(this.view.getInt32(this.skip(4, end), true));
      case 0x12: return this.view.getBigInt64(this.skip(8, end), true);
      case 0x13: {
        const at = this.skip(16, end);
        const isInteger = this.view.getBigUint64(at + 8, true) === DECIMAL128_EXPONENT_0;
        return isInteger ? this.view.getBigUint64(at, true) : new Unsupported();
      }
      default: {
        const code = kind.toString(16).padStart(2, "0");
        throw new DecodeError(`has an element of BSON type 0x${code}, which is not supported`);
      }
    }
  }

  string(end) {
    const at = this.skip(4, end);
    const length = this.view.getInt32(at, true);
    if (length < 1) throw this.malformed();
    const start = this.skip(length, end);
    if (this.data[start + length - 1] !== 0) throw this.malformed();
    return this.text(start, start + length - 1);
  }

  binary(end) {
    const length = this.view.getInt32(this.skip(4, end), true);
    this.skip(1, end);
    if (length < 0) throw this.malformed();
    const start = this.skip(length, end);
    return this.data.subarray(start, start + length);
  }

  text(start, stop) {
    try {
      return TEXT.decode(this.data.subarray(start, stop));
    } catch {
      throw this.malformed();
    }
  }

  need(count, end) {
    if (end - this.at < count) throw this.malformed();
  }

  skip(count, end) {
    this.need(count, end);
    this.at += count;
    return this.at - count;
  }

  malformed() {
    return new DecodeError(`is not BSON: malformed at byte ${this.at}`);
  }
}
