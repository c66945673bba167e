import fc from 'fast-check';
import mongoose, { Schema, Types } from 'mongoose';
import { describe, expect, test } from 'vitest';
import { MAX_RECIPIENT_BYTES, parseRecipient } from '../../src/core/recipient.ts';

const nested = (depth: number): object => (depth === 0 ? {} : { a: nested(depth - 1) });

describe('what is taken', () => {
  const objectId = new Types.ObjectId('65f000000000000000000001');

  test.each<[string, object, object]>([
    ['strings', { id: 'a', to: 'a@b' }, { id: 'a', to: 'a@b' }],
    ['numbers', { id: 0, to: 491701234567 }, { id: '0', to: '491701234567' }],
    ['big integers', { id: 12345678901234567890n, to: 'x' }, { id: '12345678901234567890', to: 'x' }],
    ['ObjectIds', { id: objectId, to: objectId }, { id: String(objectId), to: String(objectId) }],
    ['empty extras', { id: 'a', to: 'b', vars: null, timezone: '' }, { id: 'a', to: 'b' }],
    ['other fields', { id: 'a', to: 'b', email: 'c' }, { id: 'a', to: 'b' }],
    [
      'a zone',
      { id: 'a', to: 'b', timezone: 'Europe/Paris' },
      { id: 'a', to: 'b', timezone: 'Europe/Paris' },
    ],
    ['vars', { id: 'a', to: 'b', vars: { n: 1, none: undefined } }, { id: 'a', to: 'b', vars: { n: 1 } }],
    ['an id of 256 bytes', { id: 'é'.repeat(128), to: 'b' }, { id: 'é'.repeat(128), to: 'b' }],
    ['an emoji', { id: '😀', to: 'b' }, { id: '😀', to: 'b' }],
  ])('%s', (_name, row, recipient) => {
    expect(parseRecipient(row)).toEqual({ recipient });
  });

  test('values of MongoDB become text, dates stay dates', () => {
    const at = new Date(5);
    const vars = {
      list: objectId,
      price: Types.Decimal128.fromString('12.50'),
      big: 5n,
      at,
      tags: ['a', null],
    };
    expect(parseRecipient({ id: 'a', to: 'b', vars }).recipient?.vars).toEqual({
      list: String(objectId),
      price: '12.50',
      big: '5',
      at,
      tags: ['a', null],
    });
  });

  test('documents of mongoose are read like rows', () => {
    const nestedVars = new Schema({
      to: String,
      timezone: String,
      vars: { name: String, tags: [String], list: Types.ObjectId },
    });
    const subdocument = new Schema({ to: String, vars: new Schema({ name: String }, { _id: false }) });
    const map = new Schema({ to: String, vars: { type: Map, of: String } });
    const parsed = (schema: Schema, row: object) =>
      parseRecipient(
        mongoose
          .createConnection()
          .model('Row', schema)
          .hydrate({ _id: objectId, to: 'a@b', ...row }),
      );

    expect(
      parsed(nestedVars, { timezone: 'UTC', vars: { name: 'Ann', tags: ['x'], list: objectId } }),
    ).toEqual({
      recipient: {
        id: String(objectId),
        to: 'a@b',
        timezone: 'UTC',
        vars: { name: 'Ann', tags: ['x'], list: String(objectId) },
      },
    });
    expect(parsed(subdocument, { vars: { name: 'Ann' } }).recipient?.vars).toEqual({ name: 'Ann' });
    expect(parsed(map, { vars: new Map([['name', 'Ann']]) }).recipient?.vars).toEqual({ name: 'Ann' });
    expect(parsed(map, {}).recipient).toEqual({ id: String(objectId), to: 'a@b' });
  });

  test('it shares nothing with a row that its source uses again', () => {
    const row = { id: 'a', to: 'b', vars: { tags: ['x'], at: new Date(1) } };
    const { recipient } = parseRecipient(row);
    row.vars.tags.push('y');
    row.vars.at.setTime(2);
    expect(recipient?.vars).toEqual({ tags: ['x'], at: new Date(1) });
  });
});

describe('what is rejected, and why', () => {
  const wide: unknown[] = [];
  wide.push(wide, wide, wide, wide);

  test.each<[unknown, string]>([
    [null, 'a row must be an object with id and to, this one is null'],
    ['a@b', 'a row must be an object with id and to, this one is a string'],
    [['a', 'b'], 'a row must be an object with id and to, this one is an array'],
    [{ to: 'b' }, 'no id'],
    [{ _id: 'x', to: 'b' }, 'no id (the row has _id; give it as id)'],
    [{ id: '', to: 'b' }, 'id is empty'],
    [{ id: '  ', to: 'b' }, 'id is empty'],
    [{ id: Number.NaN, to: 'b' }, 'id is NaN'],
    [{ id: true, to: 'b' }, 'id must be a string, it is a boolean'],
    [{ id: {}, to: 'b' }, 'id must be a string, it is an object'],
    [{ id: 'x'.repeat(257), to: 'b' }, 'id is longer than 256 bytes'],
    [{ id: `é${'x'.repeat(255)}`, to: 'b' }, 'id is longer than 256 bytes'],
    [{ id: 'a\ud800', to: 'b' }, 'id is not valid Unicode'],
    [{ id: 'a' }, 'no to'],
    [{ id: 'a', to: null }, 'no to'],
    [{ id: 'a', to: '\t' }, 'to is empty'],
    [{ id: 'a', to: ['b'] }, 'to must be a string, it is an array'],
    [{ id: 'a', to: 'b', vars: 'x' }, 'vars must be an object, it is a string'],
    [{ id: 'a', to: 'b', vars: ['x'] }, 'vars must be an object, it is an array'],
    [{ id: 'a', to: 'b', vars: new Map() }, 'vars is a Map, which cannot be stored as plain data'],
    [{ id: 'a', to: 'b', vars: new Date(0) }, 'vars must be an object, it is a Date'],
    [{ id: 'a', to: 'b', vars: { f: () => 1 } }, 'vars.f is a function, which cannot be stored'],
    [{ id: 'a', to: 'b', vars: { a: [Symbol('s')] } }, 'vars.a.0 is a symbol, which cannot be stored'],
    [{ id: 'a', to: 'b', vars: { 'a\0b': 1 } }, 'vars.a\0b is a name that cannot be stored'],
    [{ id: 'a', to: 'b', vars: { _bsontype: 'ObjectId' } }, 'vars._bsontype is a name that cannot be stored'],
    [
      { id: 'a', to: 'b', vars: JSON.parse('{"__proto__":{"x":1}}') },
      'vars.__proto__ is a name that cannot be stored',
    ],
    [{ id: 'a', to: 'b', vars: { wide } }, 'contains itself'],
    [{ id: 'a', to: 'b', vars: nested(40) }, 'is nested more than 32 levels deep, or contains itself'],
    [{ id: 'a', to: 'b', vars: { s: 'x'.repeat(65_536) } }, 'is larger than 65,536 bytes as JSON'],
    [{ id: 'a', to: 'b', vars: { s: ['é'.repeat(32_768)] } }, 'vars is larger than 65,536 bytes as JSON'],
    [
      {
        id: 'a',
        to: 'b',
        vars: new Array(10).fill(0).reduce((all) => ({ a: all, b: all, c: all, d: all }), {}),
      },
      'is larger than',
    ],
    [{ id: 'a', to: 'x'.repeat(65_536) }, 'the row is larger than 65,536 bytes as JSON'],
    [{ id: 'a', to: 'b', timezone: 'Europe/Pariss' }, 'unknown time zone "Europe/Pariss"'],
    [{ id: 'a', to: 'b', timezone: '+02:00' }, 'unknown time zone "+02:00"'],
    [{ id: 'a', to: 'b', timezone: 2 }, 'timezone must be a string, it is a number'],
  ])('row %#', (row, reason) => {
    const parsed = parseRecipient(row);
    expect(parsed.rejected ?? '').toContain(reason);
    expect(parsed.recipient).toBeUndefined();
  });

  test('the id is told where there was one', () => {
    expect(parseRecipient({ id: 7, to: '' })).toEqual({ rejected: 'to is empty', id: '7' });
    expect(parseRecipient({ id: '', to: 'b' })).not.toHaveProperty('id');
  });

  test('the limit is exact', () => {
    const frame = JSON.stringify({ id: 'a', to: 'b', vars: { s: '' } }).length;
    const row = (length: number) => ({ id: 'a', to: 'b', vars: { s: 'x'.repeat(length) } });
    expect(parseRecipient(row(MAX_RECIPIENT_BYTES - frame)).recipient).toBeDefined();
    expect(parseRecipient(row(MAX_RECIPIENT_BYTES - frame + 1)).rejected).toContain('larger');
  });
});

describe('for any row', () => {
  const row = fc.oneof(
    fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSparseArray: true,
      withTypedArray: true,
    }),
    fc.record(
      {
        id: fc.oneof(fc.string({ unit: 'binary' }), fc.integer(), fc.anything()),
        to: fc.oneof(fc.string(), fc.integer()),
        vars: fc.oneof(
          fc.dictionary(fc.string(), fc.anything({ withBigInt: true, withDate: true })),
          fc.anything(),
        ),
        timezone: fc.oneof(fc.constantFrom('Asia/Tokyo', 'UTC', ''), fc.string()),
      },
      { requiredKeys: [] },
    ),
  );

  test('there is a recipient that keeps the limits, or a reason', () => {
    fc.assert(
      fc.property(row, (value) => {
        const { recipient, rejected } = parseRecipient(value);
        if (recipient === undefined) {
          expect(rejected).toMatch(/\S/);
          return;
        }
        expect(recipient.id).not.toBe('');
        expect(recipient.to).not.toBe('');
        expect(Buffer.byteLength(recipient.id)).toBeLessThanOrEqual(256);
        expect(Buffer.byteLength(JSON.stringify(recipient))).toBeLessThanOrEqual(MAX_RECIPIENT_BYTES);
      }),
      { numRuns: 2_000 },
    );
  });

  test('what comes out goes in again unchanged', () => {
    fc.assert(
      fc.property(row, (value) => {
        const { recipient } = parseRecipient(value);
        if (recipient !== undefined) expect(parseRecipient(recipient)).toEqual({ recipient });
      }),
      { numRuns: 2_000 },
    );
  });
});
