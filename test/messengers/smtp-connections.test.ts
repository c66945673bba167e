/** Connections: opened when needed, used again, replaced when stale, none left behind; sends that are given up. */

import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CampaignSchedulerError } from '../../src/errors.ts';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { type SmtpSink, startSmtpSink } from '../support/smtp-sink.ts';
import { startRawSmtp } from '../support/smtp-sink-raw.ts';
import { context, failureOf, mail, messenger } from './mail.ts';

let sink: SmtpSink;
beforeEach(async () => {
  sink = await startSmtpSink();
});
afterEach(() => sink.close());

const keys = (count: number) =>
  Array.from({ length: count }, (_, index) => `m${String(index).padStart(3, '0')}`);

describe('connections', () => {
  test('none is opened before the first mail', async () => {
    const email = messenger({ url: sink.url });
    await email.checkContent?.({ subject: 's', text: 't' });
    expect(email.concurrency).toBe(10);
    await email.close?.();
    expect(sink.opened).toBe(0);
  });

  test('are used again and never more than allowed', async () => {
    const email = messenger({ url: sink.url, connections: 3 });
    expect(email.concurrency).toBe(3);
    let most = 0;
    sink.plan(() => {
      most = Math.max(most, sink.open);
      return {};
    });
    await Promise.all(keys(100).map((key) => email.send(mail({ key }), context)));
    expect(new Set(sink.messages.map((message) => message.messageId)).size).toBe(100);
    expect(sink.messages).toHaveLength(100);
    expect(most).toBeLessThanOrEqual(3);
    expect(sink.opened).toBe(3);
  });

  test('one that the server has dropped is replaced, without a failure and without a second copy', async () => {
    const email = messenger({ url: sink.url, connections: 2 });
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(keys(2).map((key) => email.send(mail({ key: `${round}${key}` }), context)));
      sink.drop();
      await sink.untilNoneOpen();
    }
    expect(sink.messages).toHaveLength(10);
    expect(new Set(sink.messages.map((message) => message.messageId)).size).toBe(10);
  });

  test.each(['drop', 421] as const)('one that ends at the next MAIL (%s) is replaced', async (mailPlan) => {
    const email = messenger({ url: sink.url, connections: 1 });
    await email.send(mail({ key: 'one' }), context);
    let times = 0;
    sink.plan(({ to }) => {
      if (to !== '') return {};
      times += 1;
      return times === 1 ? { mail: mailPlan } : {};
    });
    await expect(email.send(mail({ key: 'two' }), context)).resolves.toMatchObject({ status: 'sent' });
    expect(sink.messages).toHaveLength(2);
    expect(sink.opened).toBe(2);
  });

  test('a mail lost after hand-over is never repeated', async () => {
    const email = messenger({ url: sink.url, connections: 1 });
    await email.send(mail({ key: 'one' }), context);
    sink.plan(() => ({ message: 'drop' }));
    expect((await failureOf(email.send(mail({ key: 'two' }), context))).kind).toBe('unknown');
    expect(sink.messages).toHaveLength(2);
  });

  test('the server comes back', async () => {
    const { port } = sink;
    const email = messenger({ url: sink.url, connections: 2 });
    await email.send(mail(), context);
    await sink.close();
    expect((await failureOf(email.send(mail(), context))).kind).toBe('provider');
    sink = await startSmtpSink({ port });
    await expect(email.send(mail(), context)).resolves.toMatchObject({ status: 'sent' });
  });

  test('the id of the server is passed on where it says one', async () => {
    const server = await startRawSmtp({ dot: '250 2.0.0 Ok: queued as 4bXk2T0vQZ' });
    onTestFinished(() => server.close());
    const sent = await messenger({ url: server.url }).send(mail(), context);
    expect(sent).toEqual({ status: 'sent', providerId: '4bXk2T0vQZ' });
  });
});

describe('close', () => {
  test('says goodbye and leaves nothing behind', async () => {
    const email = messenger({ url: sink.url, connections: 5 });
    await Promise.all(keys(20).map((key) => email.send(mail({ key }), context)));
    expect(sink.open).toBe(5);
    await email.close?.();
    await sink.untilNoneOpen();
    await vi.waitFor(() => expect(process.getActiveResourcesInfo()).not.toContain('TCPSocketWrap'));
    await email.close?.();
  });

  test('lets a mail under way end', async () => {
    const email = messenger({ url: sink.url, connections: 2 });
    sink.plan(() => ({ delayMs: 300 }));
    const sending = email.send(mail(), context);
    await sink.untilReceived(1);
    await email.close?.();
    await expect(sending).resolves.toEqual({ status: 'sent' });
    await sink.untilNoneOpen();
  });

  test('cuts a mail that does not end: unknown', async () => {
    const email = messenger({ url: sink.url });
    sink.plan(() => ({ message: 'silence' }));
    const sending = failureOf(email.send(mail(), context));
    await sink.untilReceived(1);
    await email.close?.();
    expect((await sending).kind).toBe('unknown');
    await sink.untilNoneOpen();
  });

  test('after it nothing is sent', async () => {
    const email = messenger({ url: sink.url });
    await email.close?.();
    expect(await failureOf(email.send(mail(), context))).toMatchObject({ kind: 'provider', code: 'ECLOSED' });
    expect(sink.opened).toBe(0);
  });
});

describe('a signal', () => {
  test('before the start: nothing begins', async () => {
    const failure = await failureOf(
      messenger({ url: sink.url }).send(mail(), { signal: AbortSignal.abort() }),
    );
    expect(failure).toMatchObject({ kind: 'provider', code: 'EABORT' });
    expect(sink.opened).toBe(0);
  });

  test('during the envelope: the message is held back at the last moment', async () => {
    const email = messenger({ url: sink.url });
    const controller = new AbortController();
    sink.plan(({ to }) => {
      if (to !== '') controller.abort();
      return {};
    });
    const failure = await failureOf(email.send(mail(), { signal: controller.signal }));
    expect(failure).toMatchObject({ kind: 'provider', code: 'EABORT' });
    await sink.untilNoneOpen();
    expect(sink.messages).toHaveLength(0);
  });

  test('after hand-over: the truth is waited for', async () => {
    const email = messenger({ url: sink.url });
    const controller = new AbortController();
    sink.plan(() => ({ delayMs: 200 }));
    const sending = email.send(mail(), { signal: controller.signal });
    await sink.untilReceived(1);
    controller.abort();
    await expect(sending).resolves.toEqual({ status: 'sent' });
  });
});

describe('verify', () => {
  test('passes with a server and the right password, and leaves no connection', async () => {
    const guarded = await startSmtpSink({ auth: { user: 'app', pass: 'p@ss:w/rd' } });
    onTestFinished(() => guarded.close());
    const url = `smtp://app:${encodeURIComponent('p@ss:w/rd')}@127.0.0.1:${guarded.port}`;
    const email = messenger({ url });
    await expect(email.verify?.()).resolves.toBeUndefined();
    await guarded.untilNoneOpen();
    await email.send(mail(), context);
    expect(guarded.messages).toHaveLength(1);
  });

  test('fails without a server', async () => {
    await sink.close();
    await expect(messenger({ url: sink.url }).verify?.()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});

describe('secrets', () => {
  const USER = 'app-user-71';
  const PASS = 's3cret/p@ss word';
  const encoded = `${encodeURIComponent(USER)}:${encodeURIComponent(PASS)}`;
  const forms = [USER, PASS, encodeURIComponent(PASS), Buffer.from(PASS).toString('base64')];

  const everything = (error: unknown): string => {
    const seen = new Set<unknown>();
    const walk = (value: unknown): string => {
      if (typeof value !== 'object' || value === null) return String(value);
      if (seen.has(value)) return '';
      seen.add(value);
      return Reflect.ownKeys(value)
        .map((key) => `${String(key)} ${walk(Reflect.get(value, key))}`)
        .join('\n');
    };
    return `${String(error)}\n${walk(error)}`;
  };

  test('a server that shows the password does not get it into an error', async () => {
    const guarded = await startSmtpSink({ auth: { user: USER, pass: 'another' } });
    onTestFinished(() => guarded.close());
    const email = messenger({ url: `smtp://${encoded}@127.0.0.1:${guarded.port}` });
    for (const attempt of [() => email.send(mail(), context), async () => email.verify?.()]) {
      const error = await failureOf(attempt());
      expect(error).toBeInstanceOf(DeliveryError);
      expect(error.message).toContain('no such login');
      for (const form of forms) expect(everything(error)).not.toContain(form);
    }
  });

  test.each([
    `http://${encoded}@127.0.0.1`,
    `smtp://${encoded}@127.0.0.1:99999`,
    `smtp://${encoded}@`,
    `smtp://${USER}:${PASS}@127.0.0.1:25/x y`,
    `smtp://${encoded}@127.0.0.1/?pool=true`,
    `smtp://${encoded}%E0%A4%A@127.0.0.1`,
    `${encoded}@127.0.0.1`,
  ])('a wrong URL is refused without showing it (%#)', (url) => {
    expect.assertions(2 + forms.length);
    try {
      messenger({ url });
    } catch (error) {
      expect(error).toBeInstanceOf(CampaignSchedulerError);
      expect((error as Error).message).toContain('`url`');
      for (const form of forms) expect(everything(error)).not.toContain(form);
    }
  });
});
