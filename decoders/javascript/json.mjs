// Reads JSON (RFC 8259) without losing digits: integers come as bigint, other numbers as number. A name twice
// in one object is refused, and nesting is limited.

import { DecodeError } from "./error.mjs";

const TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\n\r]*/y;
const WORDS = [["true", true], ["false", false], ["null", null]];

/** Parses bytes; objects have no prototype. Throws DecodeError. */
export function parseJson(bytes, depthMax) {
  let text;
  try {
    text = TEXT.decode(bytes);
  } catch {
    throw new DecodeError("is not JSON: not UTF-8");
  }
  const parser = new Parser(text, depthMax);
  const value = parser.value(0);
  parser.space();
  if (parser.at !== text.length) throw parser.wrong();
  return value;
}

class Parser {
  constructor(text, depthMax) {
    this.text = text;
    this.depthMax = depthMax;
    this.at = 0;
  }

  wrong() {
    return new DecodeError(`is not JSON: malformed at character ${this.at}`);
  }

  space() {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    this.at = SPACE.lastIndex;
  }

  /** Takes `mark` if it comes next. */
  takes(mark) {
    this.space();
    if (!this.text.startsWith(mark, this.at)) return false;
    this.at += mark.length;
    return true;
  }

  value(depth) {
    if (this.takes("{")) return this.object(depth + 1);
    if (this.takes("[")) return this.array(depth + 1);
    if (this.text[this.at] === '"') return this.string();
    for (const [word, value] of WORDS) {
      if (this.takes(word)) return value;
    }
    NUMBER.lastIndex = this.at;
    const number = NUMBER.exec(this.text);
    if (number === null) throw this.wrong();
    const [digits, fraction, exponent] = number;
    const isInteger = fraction === undefined && exponent === undefined && digits !== "-0";
    if (isInteger && digits.length <= 20) {
      const integer = BigInt(digits);
      this.at += digits.length;
      if (integer >= -(1n << 63n) && integer < 1n << 64n) return integer;
      return Number(digits);
    }
    const double = Number(digits);
    if (!Number.isFinite(double)) throw new DecodeError("is not JSON: a number is out of range");
    this.at += digits.length;
    return double;
  }

  string() {
    STRING.lastIndex = this.at;
    const found = STRING.exec(this.text);
    if (found === null) throw this.wrong();
    const string = JSON.parse(found[0]);
    // A lone surrogate is no text.
    if (/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(string)) throw this.wrong();
    this.at += found[0].length;
    return string;
  }

  enter(depth) {
    if (depth > this.depthMax) throw new DecodeError(`has more than ${this.depthMax} levels`);
  }

  array(depth) {
    this.enter(depth);
    const items = [];
    if (this.takes("]")) return items;
    do {
      items.push(this.value(depth));
    } while (this.takes(","));
    if (!this.takes("]")) throw this.wrong();
    return items;
  }

  object(depth) {
    this.enter(depth);
    const object = Object.create(null);
    if (this.takes("}")) return object;
    do {
      this.space();
      const name = this.string();
      if (!this.takes(":")) throw this.wrong();
      if (name in object) throw new DecodeError("has a name twice in one document");
      object[name] = this.value(depth);
    } while (this.takes(","));
    if (!this.takes("}")) throw this.wrong();
    return object;
  }
}
