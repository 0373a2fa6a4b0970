// Between gRPC's messages, as the protocol files describe them, and requests and answers of the rate limit service. The
// numbers of fields are those of proto/; a test compares both with what a general codec makes of these files.
import { CODES, type RlsAnswer, type RlsStatus, UNITS } from '../rls/answer.ts';
import type { BroughtLimit, RlsDescriptor, RlsEntry, RlsRequest } from '../rls/request.ts';
import { tag, WIRE, WireReader, WireWriter } from './wire.ts';

/** Throws BadMessage. */
export function readRequest(bytes: Buffer): RlsRequest {
  const reader = new WireReader(bytes);
  const descriptors: RlsDescriptor[] = [];
  let [domain, hitsAddend] = ['', 0];
  for (let next = reader.tag(); next !== 0; next = reader.tag()) {
    if (next === tag(1, WIRE.bytes)) domain = reader.text();
    else if (next === tag(2, WIRE.bytes)) descriptors.push(readDescriptor(reader));
    else if (next === tag(3, WIRE.varint)) hitsAddend = reader.uint32();
    else reader.skip(next);
  }
  return { domain, hitsAddend, descriptors };
}

function readDescriptor(reader: WireReader): RlsDescriptor {
  const outer = reader.enter();
  const entries: RlsEntry[] = [];
  let limit: BroughtLimit | undefined;
  let hitsAddend: number | undefined;
  let isNegativeHits = false;
  for (let next = reader.tag(); next !== 0; next = reader.tag()) {
    if (next === tag(1, WIRE.bytes)) entries.push(readEntry(reader));
    else if (next === tag(2, WIRE.bytes)) limit = readLimit(reader, limit);
    else if (next === tag(3, WIRE.bytes)) hitsAddend = readHits(reader, hitsAddend);
    else if (next === tag(4, WIRE.varint)) isNegativeHits = reader.uint64() !== 0;
    else reader.skip(next);
  }
  reader.leave(outer);
  return { entries, hitsAddend, isNegativeHits, limit };
}

function readEntry(reader: WireReader): RlsEntry {
  const outer = reader.enter();
  let [key, value] = ['', ''];
  for (let next = reader.tag(); next !== 0; next = reader.tag()) {
    if (next === tag(1, WIRE.bytes)) key = reader.text();
    else if (next === tag(2, WIRE.bytes)) value = reader.text();
    else reader.skip(next);
  }
  reader.leave(outer);
  return { key, value };
}

/** A message that comes twice is one: what the second does not say is as the first has it. */
function readLimit(reader: WireReader, before: BroughtLimit | undefined): BroughtLimit {
  const outer = reader.enter();
  let { requestsPerUnit, unit } = before ?? { requestsPerUnit: 0, unit: 0 };
  for (let next = reader.tag(); next !== 0; next = reader.tag()) {
    if (next === tag(1, WIRE.varint)) requestsPerUnit = reader.uint32();
    else if (next === tag(2, WIRE.varint)) unit = reader.uint32();
    else reader.skip(next);
  }
  reader.leave(outer);
  return { requestsPerUnit, unit };
}

/** A wrapper: that it is there says something, 0 too. */
function readHits(reader: WireReader, before = 0): number {
  const outer = reader.enter();
  let hits = before;
  for (let next = reader.tag(); next !== 0; next = reader.tag()) {
    if (next === tag(1, WIRE.varint)) hits = reader.uint64();
    else reader.skip(next);
  }
  reader.leave(outer);
  return hits;
}

/** Of grpc.health.v1.HealthCheckRequest. Throws BadMessage. */
export function readService(bytes: Buffer): string {
  const reader = new WireReader(bytes);
  let service = '';
  for (let next = reader.tag(); next !== 0; next = reader.tag()) {
    if (next === tag(1, WIRE.bytes)) service = reader.text();
    else reader.skip(next);
  }
  return service;
}

/** One for all answers: each is copied out of it. */
const writer = new WireWriter();

export function healthMessage(status: number): Buffer {
  writer.restart();
  writer.uint32(1, status);
  return writer.take();
}

export function answerMessage(answer: RlsAnswer): Buffer {
  writer.restart();
  writer.uint32(1, CODES.indexOf(answer.overallCode));
  for (const status of answer.statuses) writeStatus(status);
  for (const key in answer.headers) {
    const header = writer.begin(3);
    writer.text(1, key);
    writer.text(2, answer.headers[key] ?? '');
    writer.end(header);
  }
  const struct = writer.begin(6);
  for (const name in answer.metadata) {
    const field = writer.begin(1);
    writer.text(1, name);
    const value = writer.begin(2);
    writeValue(answer.metadata[name] ?? '');
    writer.end(value);
    writer.end(field);
  }
  writer.end(struct);
  return writer.take();
}

function writeStatus({ code, currentLimit, limitRemaining, secondsUntilReset }: RlsStatus): void {
  const status = writer.begin(2);
  writer.uint32(1, CODES.indexOf(code));
  if (currentLimit !== undefined) {
    const limit = writer.begin(2);
    writer.uint32(1, currentLimit.requestsPerUnit);
    writer.uint32(2, UNITS.indexOf(currentLimit.unit));
    writer.text(3, currentLimit.name);
    writer.end(limit);
  }
  writer.uint32(3, limitRemaining);
  if (secondsUntilReset !== undefined) {
    const duration = writer.begin(4);
    writer.uint64(1, secondsUntilReset);
    writer.end(duration);
  }
  writer.end(status);
}

/** Of google.protobuf.Value: which of its fields is there says what it is. */
function writeValue(value: string | number): void {
  if (typeof value === 'number') writer.double(2, value);
  else writer.text(3, value);
}
