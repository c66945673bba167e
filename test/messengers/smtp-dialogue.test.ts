/** What becomes of a mail that a real server refuses, loses or leaves without an answer. */

import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type SinkPlan, type SmtpSink, startSmtpSink } from '../support/smtp-sink.ts';
import { type RawScript, startRawSmtp } from '../support/smtp-sink-raw.ts';
import { context, failureOf, mail, messenger } from './mail.ts';

describe('refused by a server', () => {
  let sink: SmtpSink;
  beforeEach(async () => {
    sink = await startSmtpSink();
  });
  afterEach(() => sink.close());

  const cases: Array<[name: string, plan: SinkPlan, kind: string, code: string]> = [
    ['550 to the recipient', { rcpt: 550 }, 'permanent', '550'],
    ['553 to the recipient', { rcpt: 553 }, 'permanent', '553'],
    ['450 to the recipient', { rcpt: 450 }, 'transient', '450'],
    ['451 to the recipient', { rcpt: 451 }, 'transient', '451'],
    ['421 to the recipient', { rcpt: 421 }, 'provider', '421'],
    ['530 to the recipient: a login is wanted', { rcpt: 530 }, 'provider', '530'],
    ['550 to the message', { message: 550 }, 'permanent', '550'],
    ['554 to the message', { message: 554 }, 'permanent', '554'],
    ['451 to the message', { message: 451 }, 'transient', '451'],
    ['452 to the message', { message: 452 }, 'transient', '452'],
    ['421 to the message', { message: 421 }, 'provider', '421'],
    ['550 to the sender', { mail: 550 }, 'provider', '550'],
    ['451 to the sender', { mail: 451 }, 'transient', '451'],
    ['hangs up at MAIL', { mail: 'drop' }, 'provider', 'ECONNECTION'],
    ['hangs up at RCPT', { rcpt: 'drop' }, 'provider', 'ECONNECTION'],
    ['does not answer RCPT', { rcpt: 'silence' }, 'provider', 'ETIMEDOUT'],
    ['hangs up after the final dot', { message: 'drop' }, 'unknown', 'ECONNECTION'],
    ['does not answer after the final dot', { message: 'silence' }, 'unknown', 'ETIMEDOUT'],
    ['answers too late', { delayMs: 3_000 }, 'unknown', 'ETIMEDOUT'],
  ];
  for (const [name, plan, kind, code] of cases) {
    test(`${name}: ${kind}`, async () => {
      sink.plan(() => plan);
      const email = messenger({ url: sink.url, timeoutMs: 1_000 });
      const failure = await failureOf(email.send(mail(), context));
      expect(failure).toMatchObject({ kind, code });
      // A refusal must be told from an acceptance on the same connection, or a new one.
      sink.plan(() => ({}));
      await expect(email.send(mail({ key: 'next' }), context)).resolves.toMatchObject({ status: 'sent' });
      expect(sink.messages.at(-1)?.messageId).toBe(`${'next'.padEnd(32, '0')}@example.com`);
    });
  }

  test('a slow answer in time is an acceptance', async () => {
    sink.plan(() => ({ delayMs: 300 }));
    await expect(messenger({ url: sink.url }).send(mail(), context)).resolves.toEqual({ status: 'sent' });
  });

  test('a refused mail leaves the connection to the next', async () => {
    const email = messenger({ url: sink.url, connections: 1 });
    sink.plan(({ to }) => (to.startsWith('no') ? { rcpt: 550 } : {}));
    for (let round = 0; round < 5; round += 1) {
      await failureOf(email.send(mail({ to: 'no@example.org' }), context));
      await email.send(mail({ to: 'yes@example.org' }), context);
    }
    expect(sink.messages.map((message) => message.to)).toEqual(Array(5).fill(['yes@example.org']));
    expect(sink.opened).toBe(1);
  });
});

describe('no way to the server', () => {
  test('refused connection: provider', async () => {
    const sink = await startSmtpSink();
    await sink.close();
    const failure = await failureOf(messenger({ url: sink.url }).send(mail(), context));
    expect(failure).toMatchObject({ kind: 'provider', code: 'ECONNREFUSED' });
  });

  test('unknown host: provider', async () => {
    const failure = await failureOf(messenger({ url: 'smtp://no.such.host.invalid' }).send(mail(), context));
    expect(failure.kind).toBe('provider');
    expect(failure.code).toMatch(/^(ENOTFOUND|EAI_AGAIN|EDNS)$/);
  });

  for (const greeting of [421, 554]) {
    test(`${greeting} in place of a greeting: provider`, async () => {
      const sink = await startSmtpSink({ greeting });
      onTestFinished(() => sink.close());
      const failure = await failureOf(messenger({ url: sink.url }).send(mail(), context));
      expect(failure).toMatchObject({ kind: 'provider', code: String(greeting) });
    });
  }

  test('wrong password: provider', async () => {
    const sink = await startSmtpSink({ auth: { user: 'app', pass: 'right' } });
    onTestFinished(() => sink.close());
    const transport = { host: '127.0.0.1', port: sink.port, auth: { user: 'app', pass: 'wrong' } };
    const failure = await failureOf(messenger({ transport }).send(mail(), context));
    expect(failure).toMatchObject({ kind: 'provider', code: '535' });
  });

  for (const tls of ['start', 'starttls'] as const) {
    test(`a certificate nobody trusts (${tls}): provider`, async () => {
      const sink = await startSmtpSink({ tls });
      onTestFinished(() => sink.close());
      const failure = await failureOf(messenger({ url: sink.url }).send(mail(), context));
      expect(failure.kind).toBe('provider');
      const transport = { host: '127.0.0.1', port: sink.port, secure: tls === 'start' };
      const trusting = messenger({ transport: { ...transport, tls: { rejectUnauthorized: false } } });
      await expect(trusting.send(mail(), context)).resolves.toEqual({ status: 'sent' });
    });
  }
});

describe('a server that does not keep to the rules', () => {
  const cases: Array<[name: string, script: RawScript, kind: string, code: string | undefined]> = [
    ['never greets', { greeting: '' }, 'provider', 'ETIMEDOUT'],
    ['hangs up before greeting', { greeting: 'DROP' }, 'provider', 'ECONNECTION'],
    ['greets with nonsense', { greeting: 'hello' }, 'provider', 'EPROTOCOL'],
    ['hangs up at EHLO', { EHLO: 'DROP' }, 'provider', 'ECONNECTION'],
    ['never answers EHLO', { EHLO: '' }, 'provider', 'ETIMEDOUT'],
    ['refuses STARTTLS that it offered', { EHLO: '250-raw\r\n250 STARTTLS' }, 'provider', '502'],
    ['550 to DATA', { DATA: '550 no' }, 'permanent', '550'],
    ['451 to DATA', { DATA: '451 later' }, 'transient', '451'],
    ['503 to DATA', { DATA: '503 in this order?' }, 'provider', '503'],
    ['421 to DATA', { DATA: '421 closing' }, 'provider', '421'],
    ['hangs up at DATA', { DATA: 'DROP' }, 'provider', 'ECONNECTION'],
    ['nonsense to RCPT', { RCPT: '354 what?' }, 'provider', 'EENVELOPE'],
    ['hangs up within the message', { start: 'DROP' }, 'unknown', undefined],
    ['hangs up with half a refusal', { dot: 'RAW:451 la' }, 'unknown', undefined],
    ['hangs up with a whole refusal', { dot: 'RAW:550 no\r\n' }, 'permanent', '550'],
    ['nonsense after the dot', { dot: '354 what?' }, 'unknown', 'EMESSAGE'],
    ['a reply that is none after the dot', { dot: 'thanks' }, 'unknown', 'EMESSAGE'],
  ];
  for (const [name, script, kind, code] of cases) {
    for (const extensions of ['250 raw', '250-raw\r\n250 PIPELINING']) {
      if (script.EHLO !== undefined && extensions !== '250 raw') continue;
      const how = extensions === '250 raw' ? '' : ' (pipelining)';
      test(`${name}${how}: ${kind}`, async () => {
        const server = await startRawSmtp({ EHLO: extensions, ...script });
        onTestFinished(() => server.close());
        const email = messenger({ url: server.url, timeoutMs: 1_000 });
        const failure = await failureOf(email.send(mail(), context));
        expect(failure.kind).toBe(kind);
        if (code !== undefined) expect(failure.code).toBe(code);
        // The line that everything depends on: nothing of the message had left, or an answer had come.
        if (kind === 'provider' && !name.includes('dot')) expect(server.contentBytes()).toBe(0);
      });
    }
  }

  test('a mail that is larger than the server takes: permanent, and not sent', async () => {
    const sink = await startSmtpSink({ size: 1_000 });
    onTestFinished(() => sink.close());
    const email = messenger({ url: sink.url });
    const large = mail({ content: { subject: 'x', text: 'many words '.repeat(200) } });
    expect(await failureOf(email.send(large, context))).toMatchObject({ kind: 'permanent' });
    await email.send(mail(), context);
    expect(sink.messages).toHaveLength(1);
  });
});
