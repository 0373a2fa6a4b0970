import { hash } from 'node:crypto';

/** Characters of base64url that carry at least 128 bits. */
const SUBJECT_LENGTH = 22;
const PARTITION_LENGTH = 11;
const FIELD_LENGTH = 8;

/** SHA-256 in base64url: 43 characters, none of which means anything inside a key of Redis. */
export function digest(text: string): string {
  return hash('sha256', text, 'base64url');
}

/** Parts joined so that no two lists of parts give one text, whatever characters they hold. */
export function joinUnambiguously(parts: readonly string[]): string {
  let joined = '';
  for (const part of parts) joined += `${part.length}:${part}`;
  return joined;
}

/** The hash tag that keeps all counters of a domain, or of one value of its partitioning axis, in one slot. */
export function partitionOf(domain: string, ...axisAndValue: readonly string[]): string {
  const text = axisAndValue.length === 0 ? domain : joinUnambiguously([domain, ...axisAndValue]);
  return digest(text).slice(0, PARTITION_LENGTH);
}

/** 128 bits that stand for a subject: names and values of axes, in order of the names. */
export function subjectOf(axesAndValues: readonly string[]): string {
  return digest(joinUnambiguously(axesAndValues)).slice(0, SUBJECT_LENGTH);
}

/** The field of a limit in the hash of its subject. The compiler refuses two limits with one name. */
export function fieldOf(identity: readonly string[]): string {
  return digest(joinUnambiguously(identity)).slice(0, FIELD_LENGTH);
}

/** 0 to 100, always the same for a subject, and even over many of them. */
export function stableShare(subject: string): number {
  return (Buffer.from(subject.slice(-6), 'base64url').readUInt32BE(0) / 2 ** 32) * 100;
}
