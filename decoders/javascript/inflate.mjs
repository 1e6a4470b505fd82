// Inflates zlib (RFC 1950) and gzip (RFC 1952) within limits: the same in Node.js and in browsers, without
// streams or promises. Deflate itself is RFC 1951.

const MAX_BITS = 15;
const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99,
  115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025,
  1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const DISTANCE_EXTRA = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12,
  12, 13, 13];
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** Why bytes cannot be inflated. */
export class InflateError extends Error {}

/** More came out than was allowed. */
export class TooMuchError extends Error {}

/** Inflates one whole stream, `encoding` "zlib" or "gzip", to at most `most` bytes. */
export function inflate(input, encoding, most) {
  const start = encoding === "gzip" ? gzipHeader(input) : zlibHeader(input);
  const state = { input, at: start, bits: 0, count: 0, output: new Uint8Array(Math.min(most, 16384)), size: 0, most };
  let isLast;
  do {
    isLast = take(state, 1) === 1;
    const type = take(state, 2);
    if (type === 0) stored(state);
    else if (type === 1) compressed(state, FIXED.lengths, FIXED.distances);
    else if (type === 2) dynamic(state);
    else throw new InflateError("damaged");
  } while (!isLast);
  const output = state.output.subarray(0, state.size);
  // Whole bytes that were read ahead go back.
  let at = state.at - (state.count >> 3);
  const byte = () => {
    if (at >= input.length) throw new InflateError("it ends too early");
    return input[at++];
  };
  if (encoding === "gzip") {
    const sum = (byte() | byte() << 8 | byte() << 16 | byte() << 24) >>> 0;
    const size = (byte() | byte() << 8 | byte() << 16 | byte() << 24) >>> 0;
    if (sum !== crc32(output) || size !== output.length >>> 0) throw new InflateError("damaged");
  } else {
    const sum = (byte() << 24 | byte() << 16 | byte() << 8 | byte()) >>> 0;
    if (sum !== adler32(output)) throw new InflateError("damaged");
  }
  if (at !== input.length) throw new InflateError("something follows its end");
  return output;
}

function zlibHeader(input) {
  if (input.length < 2) throw new InflateError("it ends too early");
  const [method, flags] = input;
  if ((method & 15) !== 8 || method >> 4 > 7 || (method << 8 | flags) % 31 !== 0) {
    throw new InflateError("damaged");
  }
  if (flags & 32) throw new InflateError("it asks for a preset dictionary");
  return 2;
}

function gzipHeader(input) {
  if (input.length < 10) throw new InflateError("it ends too early");
  if (input[0] !== 0x1f || input[1] !== 0x8b || input[2] !== 8 || input[3] & 0xe0) {
    throw new InflateError("damaged");
  }
  const flags = input[3];
  let at = 10;
  if (flags & 4) at += 2 + (input[at] | input[at + 1] << 8);
  for (const flag of [8, 16]) {
    if (flags & flag) {
      while (at < input.length && input[at] !== 0) at += 1;
      at += 1;
    }
  }
  if (flags & 2) {
    if (at + 2 > input.length) throw new InflateError("it ends too early");
    const sum = input[at] | input[at + 1] << 8;
    if (sum !== (crc32(input.subarray(0, at)) & 0xffff)) throw new InflateError("damaged");
    at += 2;
  }
  return at;
}

function take(state, count) {
  while (state.count < count) {
    if (state.at >= state.input.length) throw new InflateError("it ends too early");
    state.bits |= state.input[state.at++] << state.count;
    state.count += 8;
  }
  const taken = state.bits & (1 << count) - 1;
  state.bits >>>= count;
  state.count -= count;
  return taken;
}

/** Makes room for `count` more bytes. */
function grow(state, count) {
  const size = state.size + count;
  if (size > state.most) throw new TooMuchError();
  if (size > state.output.length) {
    const larger = new Uint8Array(Math.min(state.most, Math.max(size, 2 * state.output.length)));
    larger.set(state.output);
    state.output = larger;
  }
}

function stored(state) {
  state.at -= state.count >> 3;
  state.bits = state.count = 0;
  const { input, at } = state;
  if (at + 4 > input.length) throw new InflateError("it ends too early");
  const length = input[at] | input[at + 1] << 8;
  if (length !== (~(input[at + 2] | input[at + 3] << 8) & 0xffff)) throw new InflateError("damaged");
  if (at + 4 + length > input.length) throw new InflateError("it ends too early");
  grow(state, length);
  state.output.set(input.subarray(at + 4, at + 4 + length), state.size);
  state.size += length;
  state.at = at + 4 + length;
}

function dynamic(state) {
  const lengths = take(state, 5) + 257;
  const distances = take(state, 5) + 1;
  const codes = take(state, 4) + 4;
  if (lengths > 286 || distances > 30) throw new InflateError("damaged");
  const sizes = new Uint8Array(320);
  for (let index = 0; index < codes; index += 1) sizes[CODE_ORDER[index]] = take(state, 3);
  const code = huffman(sizes.subarray(0, 19));
  if (code.left !== 0) throw new InflateError("damaged");
  sizes.fill(0);
  let index = 0;
  while (index < lengths + distances) {
    const symbol = decode(state, code);
    if (symbol < 16) {
      sizes[index++] = symbol;
      continue;
    }
    if (symbol === 16 && index === 0) throw new InflateError("damaged");
    const value = symbol === 16 ? sizes[index - 1] : 0;
    const repeat = symbol === 16 ? 3 + take(state, 2) : symbol === 17 ? 3 + take(state, 3) : 11 + take(state, 7);
    if (index + repeat > lengths + distances) throw new InflateError("damaged");
    sizes.fill(value, index, index + repeat);
    index += repeat;
  }
  // Without an end there is no block.
  if (sizes[256] === 0) throw new InflateError("damaged");
  const lengthCode = huffman(sizes.subarray(0, lengths));
  const distanceCode = huffman(sizes.subarray(lengths, lengths + distances));
  for (const built of [lengthCode, distanceCode]) {
    // A code may be incomplete only if it has one symbol of one bit, or none.
    if (built.left > 0 && built.used > (built.counts[1] === 1 ? 1 : 0)) throw new InflateError("damaged");
  }
  compressed(state, lengthCode, distanceCode);
}

/** Builds a canonical code from the lengths of its symbols. */
function huffman(sizes) {
  const counts = new Uint16Array(MAX_BITS + 1);
  for (const size of sizes) counts[size] += 1;
  const used = sizes.length - counts[0];
  counts[0] = 0;
  let left = 1;
  const offsets = new Uint16Array(MAX_BITS + 2);
  for (let size = 1; size <= MAX_BITS; size += 1) {
    left = left * 2 - counts[size];
    if (left < 0) throw new InflateError("damaged");
    offsets[size + 1] = offsets[size] + counts[size];
  }
  const symbols = new Uint16Array(used);
  for (let symbol = 0; symbol < sizes.length; symbol += 1) {
    if (sizes[symbol] !== 0) symbols[offsets[sizes[symbol]]++] = symbol;
  }
  return { counts, symbols, left, used };
}

function decode(state, { counts, symbols }) {
  let code = 0;
  let first = 0;
  let index = 0;
  for (let size = 1; size <= MAX_BITS; size += 1) {
    code |= take(state, 1);
    const count = counts[size];
    if (code - count < first) return symbols[index + (code - first)];
    index += count;
    first = (first + count) << 1;
    code <<= 1;
  }
  throw new InflateError("damaged");
}

function compressed(state, lengths, distances) {
  for (;;) {
    const symbol = decode(state, lengths);
    if (symbol < 256) {
      grow(state, 1);
      state.output[state.size++] = symbol;
    } else if (symbol === 256) {
      return;
    } else {
      const place = symbol - 257;
      if (place >= 29) throw new InflateError("damaged");
      const length = LENGTH_BASE[place] + take(state, LENGTH_EXTRA[place]);
      const far = decode(state, distances);
      if (far >= 30) throw new InflateError("damaged");
      const distance = DISTANCE_BASE[far] + take(state, DISTANCE_EXTRA[far]);
      if (distance > state.size) throw new InflateError("damaged");
      grow(state, length);
      const { output } = state;
      for (let end = state.size + length; state.size < end; state.size += 1) {
        output[state.size] = output[state.size - distance];
      }
    }
  }
}

const FIXED = (() => {
  const sizes = new Uint8Array(288);
  sizes.fill(8, 0, 144).fill(9, 144, 256).fill(7, 256, 280).fill(8, 280, 288);
  return { lengths: huffman(sizes), distances: huffman(new Uint8Array(30).fill(5)) };
})();

function adler32(bytes) {
  let low = 1;
  let high = 0;
  for (let at = 0; at < bytes.length;) {
    // So many steps stay below 2^32.
    const end = Math.min(at + 3800, bytes.length);
    for (; at < end; at += 1) {
      low += bytes[at];
      high += low;
    }
    low %= 65521;
    high %= 65521;
  }
  return (high << 16 | low) >>> 0;
}

const CRC = Uint32Array.from({ length: 256 }, (_, index) => {
  let sum = index;
  for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? sum >>> 1 ^ 0xedb88320 : sum >>> 1;
  return sum;
});

function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = sum >>> 8 ^ CRC[(sum ^ byte) & 255];
  return ~sum >>> 0;
}
