/**
 * Turns one row of an audience into a recipient, or says why it is not one. Runs once per row of every audience, so it is
 * written by hand and allocates little. Invariant: what it accepts can be stored, found by its id, and shares nothing
 * mutable with the row it came from.
 */

import { IANAZone } from 'luxon';
import { copyPlain, isPlainObject, jsonBytes, kindOf } from './plain-data.ts';

/** One person of an audience, as frozen and as handed to a messenger. */
export interface Recipient {
  /** Unique within the audience, at most 256 bytes. */
  readonly id: string;
  /** Address in the messenger's own form: a mail address, a phone number, a URL. */
  readonly to: string;
  /** Values for the templates. */
  readonly vars?: Readonly<Record<string, unknown>>;
  /** IANA time zone of this recipient. */
  readonly timezone?: string;
}

/** What becomes a string by itself: numbers, and ObjectIds of any version of the driver. */
export type IdLike = string | number | bigint | { toHexString(): string };

/** One row of an audience before it is checked. Further fields are ignored. */
export interface AudienceRow {
  /** Unique within the audience, at most 256 bytes of UTF-8 after conversion. A second row with the same id is dropped. */
  readonly id: IdLike;
  /** Address in the messenger's own form. */
  readonly to: IdLike;
  /** Values for the templates: plain data; ObjectIds and Decimal128 become strings. */
  readonly vars?: object | null | undefined;
  /** IANA time zone, for example `Europe/Paris`. Empty means none. */
  readonly timezone?: string | null | undefined;
}

export type ParsedRow =
  | { readonly recipient: Recipient; readonly rejected?: undefined }
  /** `rejected` is the reason; `id` is there when the row had a usable one. */
  | { readonly rejected: string; readonly id?: string; readonly recipient?: undefined };

/** Most bytes of a recipient's id. */
const MAX_ID_BYTES = 256;
/** Most bytes of a recipient as JSON. */
export const MAX_RECIPIENT_BYTES = 64 * 1024;

const COPY = { limitBytes: MAX_RECIPIENT_BYTES, bsonValues: 'text' } as const;
const SURROGATE = /[\ud800-\udfff]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Never throws for a bad row; a getter of the row that throws is the source's own error and passes through. */
export function parseRecipient(row: unknown): ParsedRow {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) {
    return { rejected: `a row must be an object with id and to, this one is ${kindOf(row)}` };
  }
  const given = row as Partial<Record<keyof AudienceRow, unknown>>;

  const id = asText(given.id);
  if (id === undefined) return { rejected: notText('id', given.id, '_id' in row) };
  if (id.length > MAX_ID_BYTES || (id.length * 3 > MAX_ID_BYTES && Buffer.byteLength(id) > MAX_ID_BYTES)) {
    return { rejected: `id is longer than ${MAX_ID_BYTES} bytes` };
  }
  // Broken Unicode would be stored as U+FFFD, so that two different ids could become one.
  if (SURROGATE.test(id) && LONE_SURROGATE.test(id)) return { rejected: 'id is not valid Unicode' };

  const to = asText(given.to);
  if (to === undefined) return { rejected: notText('to', given.to, false), id };

  const recipient: { -readonly [Key in keyof Recipient]: Recipient[Key] } = { id, to };
  let atMostBytes = (id.length + to.length) * 6 + 64;

  const { vars, timezone } = given;
  if (vars !== undefined && vars !== null) {
    if (typeof vars !== 'object' || Array.isArray(vars)) {
      return { rejected: `vars must be an object, it is ${kindOf(vars)}`, id };
    }
    const copy = copyPlain(vars, 'vars', COPY);
    if (copy.problem !== undefined) return { rejected: copy.problem, id };
    if (!isPlainObject(copy.value)) return { rejected: `vars must be an object, it is ${kindOf(vars)}`, id };
    recipient.vars = copy.value;
    atMostBytes += copy.atMostBytes;
  }
  if (timezone !== undefined && timezone !== null && timezone !== '') {
    if (typeof timezone !== 'string')
      return { rejected: `timezone must be a string, it is ${kindOf(timezone)}`, id };
    if (!isTimeZone(timezone))
      return { rejected: `unknown time zone ${JSON.stringify(timezone.slice(0, 60))}`, id };
    recipient.timezone = timezone;
    atMostBytes += timezone.length;
  }
  if (atMostBytes > MAX_RECIPIENT_BYTES && jsonBytes(recipient) > MAX_RECIPIENT_BYTES) {
    return {
      rejected: `the row is larger than ${MAX_RECIPIENT_BYTES.toLocaleString('en-US')} bytes as JSON`,
      id,
    };
  }
  return { recipient };
}

const knownZones = new Map<string, boolean>();
const MAX_CACHED_ZONES = 2_000;

/** True for an IANA name that this runtime knows; fixed offsets such as `+02:00` are not IANA zones. */
export function isTimeZone(name: string): boolean {
  const known = knownZones.get(name);
  if (known !== undefined) return known;
  const valid = /^[A-Za-z]/.test(name) && IANAZone.isValidZone(name);
  // A million rows with a million wrong names must not fill the memory.
  if (knownZones.size >= MAX_CACHED_ZONES) knownZones.clear();
  knownZones.set(name, valid);
  return valid;
}

/** The value as a string that is not blank, or `undefined`. */
function asText(value: unknown): string | undefined {
  if (typeof value === 'string') return value.trim() === '' ? undefined : value;
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : undefined;
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return undefined;
  if (!('toHexString' in value) || typeof value.toHexString !== 'function') return undefined;
  const hex: unknown = value.toHexString();
  return typeof hex === 'string' && hex !== '' ? hex : undefined;
}

function notText(field: 'id' | 'to', value: unknown, hasUnderscoreId: boolean): string {
  if (value === undefined || value === null) {
    return hasUnderscoreId ? `no ${field} (the row has _id; give it as id)` : `no ${field}`;
  }
  if (typeof value === 'string') return `${field} is empty`;
  if (typeof value === 'number') return `${field} is ${value}`;
  return `${field} must be a string, it is ${kindOf(value)}`;
}
