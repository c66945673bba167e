/**
 * Copies values that come from outside (vars, content, params) into plain data that MongoDB stores as it is, or says
 * what cannot be stored. The copy shares nothing mutable with the original, so a source that reuses one object for every
 * row does no harm. A hostile value (cyclic, huge, deeply nested) costs at most about `limitBytes` steps.
 */

export interface PlainCopyOptions {
  /** Largest size of the copy as JSON, in bytes of UTF-8. */
  readonly limitBytes: number;
  /** What becomes of ObjectId, Decimal128 and the like: `text` makes them strings, `keep` leaves them. */
  readonly bsonValues: 'text' | 'keep';
}

export type PlainCopy =
  /** `atMostBytes` is a cheap upper bound of the size as JSON; the exact size is within the limit. */
  | { readonly value: unknown; readonly atMostBytes: number; readonly problem?: undefined }
  | { readonly problem: string; readonly value?: undefined };

const MAX_DEPTH = 32;
/** The first would change the copy's prototype, the second makes the driver refuse the whole document. */
const UNSTORABLE_NAMES: ReadonlySet<string> = new Set(['__proto__', '_bsontype']);

/** Two bounds of the JSON size are carried along, so that the exact size is computed only near the limit. */
interface Progress {
  readonly limitBytes: number;
  readonly keepBson: boolean;
  atLeast: number;
  atMost: number;
  problem: string | undefined;
  path: string;
}

/**
 * Copies plain objects, arrays, strings, numbers, booleans, dates, `null` and `undefined` (left out of objects).
 * Big integers become strings. Documents with `toObject` (mongoose) are converted first. Never throws for bad data:
 * the problem is in the answer, with the path of the value, for example `vars.items.0 is a function`.
 */
export function copyPlain(value: unknown, name: string, options: PlainCopyOptions): PlainCopy {
  const progress: Progress = {
    limitBytes: options.limitBytes,
    keepBson: options.bsonValues === 'keep',
    atLeast: 0,
    atMost: 0,
    problem: undefined,
    path: '',
  };
  const copy = copyValue(value, 0, progress);
  if (progress.problem !== undefined) {
    return { problem: `${name}${cutPath(progress.path)} ${progress.problem}` };
  }
  if (progress.atMost <= options.limitBytes) return { value: copy, atMostBytes: progress.atMost };
  const bytes = progress.atLeast > options.limitBytes ? progress.atLeast : jsonBytes(copy);
  if (bytes <= options.limitBytes) return { value: copy, atMostBytes: bytes };
  return { problem: `${name} is larger than ${options.limitBytes.toLocaleString('en-US')} bytes as JSON` };
}

/** Size as JSON in bytes of UTF-8. */
export function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value) ?? '');
}

/** True for `{}`, `Object.create(null)` and objects of another realm; false for arrays and instances of classes. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  return Object.getPrototypeOf(prototype) === null && !Array.isArray(value);
}

/** `an array`, `a function`, `a Map`: what a value is, in words, without showing its content. */
export function kindOf(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'object') return `a ${typeof value}`;
  if (isPlainObject(value)) return 'an object';
  const name: unknown = value.constructor?.name;
  if (typeof name !== 'string' || name === '') return 'an object';
  return `${/^[AEIOU]/i.test(name) ? 'an' : 'a'} ${name.slice(0, 60)}`;
}

function copyValue(value: unknown, depth: number, progress: Progress): unknown {
  switch (typeof value) {
    case 'string':
      return counted(value, value.length + 2, value.length * 6 + 2, progress);
    case 'number':
      return counted(value, 1, 25, progress);
    case 'boolean':
    case 'undefined':
      return counted(value, 1, 5, progress);
    case 'bigint':
      return copyValue(String(value), depth, progress);
    case 'object':
      return value === null ? counted(value, 1, 5, progress) : copyObject(value, depth, progress);
    default:
      return refused(`is ${kindOf(value)}, which cannot be stored`, progress);
  }
}

function copyObject(value: object, depth: number, progress: Progress): unknown {
  if (depth > MAX_DEPTH) {
    return refused(`is nested more than ${MAX_DEPTH} levels deep, or contains itself`, progress);
  }
  counted(value, 2, 2, progress);
  if (Array.isArray(value)) return copyArray(value, depth, progress);
  if (isPlainObject(value)) return copyRecord(value, depth, progress);
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) return refused('is an invalid Date', progress);
    return counted(new Date(value.getTime()), 1, 30, progress);
  }
  if ('_bsontype' in value && typeof value._bsontype === 'string') {
    if (!progress.keepBson) return copyValue(String(value), depth, progress);
    return counted(value, 1, Number.POSITIVE_INFINITY, progress);
  }
  if ('toObject' in value && typeof value.toObject === 'function') {
    return copyValue(value.toObject({ flattenMaps: true }), depth + 1, progress);
  }
  return refused(`is ${kindOf(value)}, which cannot be stored as plain data`, progress);
}

function copyArray(value: readonly unknown[], depth: number, progress: Progress): unknown[] {
  const copy: unknown[] = [];
  for (let index = 0; index < value.length && !isOver(progress); index += 1) {
    copy.push(copyValue(value[index], depth + 1, progress));
    progress.atMost += 1;
    if (progress.problem !== undefined) progress.path = `.${index}${progress.path}`;
  }
  return copy;
}

function copyRecord(value: Record<string, unknown>, depth: number, progress: Progress): object {
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    if (isOver(progress)) break;
    const child = value[key];
    if (child === undefined) continue;
    counted(key, key.length + 3, key.length * 6 + 4, progress);
    if (UNSTORABLE_NAMES.has(key) || key.includes('\0')) refused('is a name that cannot be stored', progress);
    else copy[key] = copyValue(child, depth + 1, progress);
    if (progress.problem !== undefined) progress.path = `.${key.slice(0, 60)}${progress.path}`;
  }
  return copy;
}

function counted<T>(value: T, atLeast: number, atMost: number, progress: Progress): T {
  progress.atLeast += atLeast;
  progress.atMost += atMost;
  return value;
}

function refused(problem: string, progress: Progress): undefined {
  progress.problem ??= problem;
  return undefined;
}

/** Nothing more is copied: something cannot be stored, or all of it is too large already. */
function isOver(progress: Progress): boolean {
  return progress.problem !== undefined || progress.atLeast > progress.limitBytes;
}

function cutPath(path: string): string {
  return path.length <= 120 ? path : `${path.slice(0, 120)}…`;
}
