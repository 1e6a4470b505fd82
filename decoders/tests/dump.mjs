// Prints what the decoder makes of payloads, for comparison with the others: see dump.md beside this file.

import { readFileSync } from "node:fs";
import { DecodeError, decodeBatch } from "../javascript/tidegate-decoder.mjs";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const text = (value) => (value == null ? "-" : `=${hex(value)}`);
const number = (value) => (value == null ? "-" : String(value));

function show(value) {
  if (value === null) return "n";
  if (typeof value === "boolean") return value ? "t" : "f";
  if (typeof value === "bigint") return `i${value}`;
  if (typeof value === "number") {
    if (Number.isNaN(value)) return "dnan";
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value);
    return `d${hex(bytes)}`;
  }
  if (typeof value === "string") return `s${hex(value)}`;
  if (value instanceof Uint8Array) return `b${hex(value)}`;
  if (Array.isArray(value)) return `[${value.map(show).join(",")}]`;
  const members = Object.keys(value).map((name) => [hex(name), show(value[name])]);
  members.sort(([left], [right]) => (left < right ? -1 : 1));
  return `{${members.map(([name, member]) => `${name}:${member}`).join(",")}}`;
}

function dump(line) {
  const [encoding, topic, wire, inflated, ratio, depth, elements, payload] = line.split(" ");
  const limits = { wire: +wire, inflated: +inflated, ratio: +ratio, depth: +depth, elements: +elements };
  let batch;
  try {
    const bytes = new Uint8Array(Buffer.from(payload, "hex"));
    batch = decodeBatch(bytes, encoding === "-" ? null : encoding, topic === "-" ? null : topic, limits);
  } catch (error) {
    if (error instanceof DecodeError) return `! ${error.message}`.replaceAll("\n", " ");
    throw error;
  }
  const { gateway, uplink, epoch, seq, clockTrusted } = batch;
  const parts = [`B ${text(gateway)} ${text(uplink)} ${epoch} ${number(seq)} ${+clockTrusted}`];
  for (const { stream, number: at, timeMicros, untilMicros, unit, status, replayed, value } of batch.readings) {
    parts.push(`R ${text(stream)} ${at} ${timeMicros} ${number(untilMicros)} ${text(unit)} ${status} ${+replayed} ${show(value)}`);
  }
  for (const { stream, first, last, why } of batch.gaps) {
    parts.push(`G ${text(stream)} ${first} ${last} ${text(why)}`);
  }
  return parts.join(";");
}

const lines = readFileSync(0, "utf8").split("\n").filter((line) => line !== "");
process.stdout.write(`${lines.map(dump).join("\n")}\n`);
