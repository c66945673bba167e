/** Composing alone, against a reader written from the RFCs: whatever the values, what was said is what arrives. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bareAddress, composeMail, mailbox, oneLine } from '../../src/messengers/smtp-mime.ts';
import { readMail } from './read-mail.ts';

// A half of a surrogate pair is no character and becomes U+FFFD in any UTF-8.
const text = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string({
    unit: fc.constantFrom(
      '\r',
      '\n',
      '\r\n',
      ' ',
      '\t',
      '.',
      '=',
      '=?',
      'ä',
      '🎉',
      'x',
      '\0',
      '"',
      '<',
      '--',
    ),
  }),
  fc.string({ unit: 'binary', maxLength: 400 }).map((value) => Buffer.from(value).toString()),
);
const part = (changes: object) =>
  composeMail({
    from: 'a@example.com',
    to: 'b@example.org',
    subject: 's',
    messageId: '<1@example.com>',
    date: new Date(0),
    headers: [],
    html: undefined,
    text: undefined,
    ...changes,
  });

describe('composeMail', () => {
  test('any body comes back, with CRLF for every line end', () => {
    fc.assert(
      fc.property(text, text, (html, plain) => {
        const raw = part({ html, text: plain });
        const mail = readMail(raw);
        expect(mail.parts.map((one) => one.text)).toEqual(
          [plain, html].map((value) => value.replace(/\r\n|\r|\n/g, '\r\n')),
        );
        expect(mail.isAscii).toBe(true);
        expect(mail.longestLine).toBeLessThanOrEqual(78);
      }),
      { numRuns: 1_000 },
    );
  });

  test('any subject and header come back as one line', () => {
    fc.assert(
      fc.property(text, text, (subject, value) => {
        const mail = readMail(part({ subject, headers: [['X-Value', value]], text: 'x' }));
        // Folding may take several blanks for one.
        const same = (one: string) => oneLine(one).replace(/ +/g, ' ');
        expect(same(mail.headers.subject ?? '')).toBe(same(subject));
        expect(same(mail.headers['x-value'] ?? '')).toBe(same(value));
        expect(mail.longestLine).toBeLessThan(998);
      }),
      { numRuns: 1_000 },
    );
  });

  test('any name of a sender comes back', () => {
    fc.assert(
      fc.property(text, (name) => {
        const mail = readMail(part({ from: mailbox(name, 'a@example.com'), text: 'x' }));
        const shown = (mail.headers.from ?? '').replace(/ ?<a@example\.com>$/, '');
        const unquoted = shown.replace(/^"(.*)"$/, '$1').replace(/\\(.)/g, '$1');
        if (oneLine(name) === '') expect(mail.headers.from).toBe('a@example.com');
        else expect([shown, unquoted]).toContain(oneLine(name));
        expect(mail.headers.to).toBe('b@example.org');
      }),
      { numRuns: 1_000 },
    );
  });
});

test('an address that is taken has exactly one @ and nothing that SMTP or a header would read', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        text,
        fc.tuple(text, text).map((both) => both.join('@')),
      ),
      (value) => {
        const address = bareAddress(value);
        if (address !== undefined) expect(address).toMatch(/^[\x21-\x7e]+$/);
        if (address !== undefined) expect(address).toMatch(/^[^@<>,;:"()\\]+@[^@<>,;:"()\\]+$/);
      },
    ),
  );
});
