/** Options of the SMTP messenger: every problem at once, in words that help. */

import { describe, expect, test } from 'vitest';
import { ValidationError } from '../../src/errors.ts';
import { resolveSmtpOptions, type SmtpMessengerOptions } from '../../src/messengers/smtp-options.ts';

const from = 'news@example.com';
const url = 'smtp://mail.example.com:2525';

function problemsOf(options: object): string[] {
  try {
    resolveSmtpOptions(options as SmtpMessengerOptions);
  } catch (error) {
    if (error instanceof ValidationError) return error.problems.map((problem) => problem.path);
    throw error;
  }
  return [];
}

describe('good options', () => {
  test('defaults', () => {
    expect(resolveSmtpOptions({ url, from })).toMatchObject({
      server: { host: 'mail.example.com', port: 2525 },
      from: { address: from },
      connections: 10,
      messageIdDomain: 'example.com',
      timeoutMs: 25_000,
    });
  });

  test.each([
    ['smtp://mail.example.com', { host: 'mail.example.com' }],
    ['smtps://mail.example.com', { host: 'mail.example.com', secure: true }],
    [
      'smtps://u%40x:p%2Fw@mail.example.com/',
      { host: 'mail.example.com', secure: true, auth: { user: 'u@x', pass: 'p/w' } },
    ],
    ['smtp://[::1]:25', { host: '::1', port: 25 }],
  ])('%s', (given, server) => {
    expect(resolveSmtpOptions({ url: given, from }).server).toEqual(server);
  });

  test.each([
    ['a@b.example', { address: 'a@b.example' }],
    ['A <a@b.example>', { name: 'A', address: 'a@b.example' }],
    ['"A, B" <a@b.example>', { name: 'A, B', address: 'a@b.example' }],
    ['<a@b.example>', { address: 'a@b.example' }],
    [
      { name: 'A', address: 'a@b.example' },
      { name: 'A', address: 'a@b.example' },
    ],
    [{ address: 'a@bücher.example' }, { address: 'a@xn--bcher-kva.example' }],
  ])('from %j', (given, expected) => {
    expect(resolveSmtpOptions({ url, from: given }).from).toEqual(expected);
  });
});

describe('wrong options', () => {
  test.each([
    [{ from }, ['url']],
    [{ url, transport: { host: 'x' }, from }, ['url']],
    [{ url: 'http://x', from }, ['url']],
    [{ url: 5, from }, ['url']],
    [{ transport: { sendMail: () => {} }, from }, ['transport']],
    [{ transport: { host: '', auth: { user: 'x' } }, from }, ['transport.host', 'transport.auth']],
    [{ transport: { host: 'x', prot: 25 }, from }, ['transport.prot']],
    [{ url }, ['from']],
    [{ url, from: 'nobody' }, ['from']],
    [{ url, from: 'A <a@b.c>\r\nBcc: x@y.z' }, ['from']],
    [{ url, from: { name: 'A\nB', address: 'a@b.c' } }, ['from']],
    [{ url, from, connections: 0 }, ['connections']],
    [{ url, from, connections: 1.5 }, ['connections']],
    [{ url, from, timeoutMs: 10 }, ['timeoutMs']],
    [{ url, from, messageIdDomain: 'a b' }, ['messageIdDomain']],
    [{ url, from, messageIdDomain: 'x>\r\nBcc: y' }, ['messageIdDomain']],
    [{ urls: url, from }, ['urls', 'url']],
    [{ from: 1, connections: 'x', timeoutMs: -1 }, ['url', 'from', 'connections', 'timeoutMs']],
  ])('%j', (options, paths) => {
    expect(problemsOf(options)).toEqual(paths);
  });

  test('a misspelt key gets a suggestion', () => {
    expect(() => resolveSmtpOptions({ url, from, conections: 5 } as SmtpMessengerOptions)).toThrow(
      'Did you mean `connections`?',
    );
  });
});
