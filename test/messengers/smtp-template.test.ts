/** Templates: what they show, what they may not do, and which content is refused before anything is sent. */

import { describe, expect, test } from 'vitest';
import { CampaignSchedulerError } from '../../src/errors.ts';
import type { Content } from '../../src/messengers/messenger.ts';
import { CONTENT, context, failureOf, mail, mailSink, messenger } from './mail.ts';
import { readMail } from './read-mail.ts';

const { sink, arrived } = await mailSink();

describe('values as Liquid shows them', () => {
  // A bare name takes a short way past the engine; behind a tag it goes through the engine.
  test.each([
    ['text', 'a <b> & "c"'],
    ['number', 12.5],
    ['zero', 0],
    ['true', true],
    ['false', false],
    ['null', null],
    ['list', [1, 'two', '<3>']],
    ['empty list', []],
    ['date', new Date(0)],
    ['blank', ''],
  ])('%s', async (_name, value) => {
    const names = 'a{{ value }}b{{value}}c {{- value -}} d';
    const email = messenger({ url: sink.url });
    for (const source of [names, `${names}{% if true %}{% endif %}`]) {
      await email.send(
        mail({ vars: { value }, content: { subject: 's', text: source, html: source } }),
        context,
      );
    }
    const [short, long] = sink.messages.map((message) => readMail(message.raw).parts);
    expect(short).toEqual(long);
  });

  test('a missing value is blank, a filter may name another', async () => {
    const text = '[{{ missing }}][{{ missing | default: "friend" }}][{{ nil }}][{{ true }}]';
    const got = await arrived({ content: { subject: 's', text } });
    expect(got.parts[0]?.text).toBe('[][friend][][true]');
  });

  test('a template that fails for one recipient fails for that one only', async () => {
    const email = messenger({ url: sink.url });
    const content = { subject: 's', text: '{% for i in (1..n) %}{{ i }}{% endfor %}' };
    const failure = await failureOf(email.send(mail({ vars: { n: 1e9 }, content }), context));
    expect(failure).toMatchObject({ kind: 'permanent', code: 'ETEMPLATE' });
    await email.send(mail({ vars: { n: 3 }, content }), context);
    expect(sink.messages).toHaveLength(1);
  });

  test('a loop that would not end is ended', async () => {
    const text =
      '{% for i in (1..9999) %}{% for k in (1..9999) %}{% for l in (1..9999) %}{% endfor %}{% endfor %}{% endfor %}';
    const failure = await failureOf(
      messenger({ url: sink.url }).send(mail({ content: { subject: 's', text } }), context),
    );
    expect(failure).toMatchObject({ kind: 'permanent', code: 'ETEMPLATE' });
  });
});

describe('content that can never be sent', () => {
  const refused: Array<[name: string, content: object, path: string]> = [
    ['no subject', { text: 'x' }, 'content.subject'],
    ['a blank subject', { subject: ' ', text: 'x' }, 'content.subject'],
    ['a subject that is no text', { subject: 5, text: 'x' }, 'content.subject'],
    ['neither html nor text', { subject: 's' }, 'content.text'],
    ['html that is no text', { subject: 's', html: ['x'] }, 'content.html'],
    ['a misspelt field', { subject: 's', text: 'x', htlm: 'x' }, 'content.htlm'],
    ['a template that does not parse', { subject: 's', html: '{% if x %}' }, 'content.html'],
    ['a filter there is not', { subject: '{{ x | nonsense }}', text: 'x' }, 'content.subject'],
    ['a file', { subject: 's', text: '{% include "/etc/passwd" %}' }, 'content.text'],
    ['a rendered file', { subject: 's', text: '{% render "x" %}' }, 'content.text'],
    ['a layout', { subject: 's', html: '{% layout "x" %}' }, 'content.html'],
    ['a header of ours', { subject: 's', text: 'x', headers: { bcc: 'a@b.c' } }, 'content.headers.bcc'],
    [
      'a header name that ends',
      { subject: 's', text: 'x', headers: { 'X\r\nY': 'z' } },
      'content.headers.X\r\nY',
    ],
    ['a header that does not parse', { subject: 's', text: 'x', headers: { X: '{{' } }, 'content.headers.X'],
    ['headers that are a list', { subject: 's', text: 'x', headers: ['X'] }, 'content.headers'],
  ];
  test.each(refused)('%s', async (_name, content, path) => {
    const email = messenger({ url: sink.url });
    const check = () => void email.checkContent?.(content as Content);
    expect(check).toThrow(CampaignSchedulerError);
    try {
      check();
    } catch (error) {
      const { code, details } = error as CampaignSchedulerError;
      expect(code).toBe('invalid_content');
      expect(details.problems).toEqual([{ path, message: expect.stringContaining(path) }]);
    }
    // Content that another program put into the database is never checked before.
    const failure = await failureOf(email.send(mail({ content }), context));
    expect(failure).toMatchObject({ kind: 'permanent', code: 'ETEMPLATE' });
  });

  test('every problem is named at once', () => {
    const check = () => void messenger({ url: sink.url }).checkContent?.({ html: '{{ ', nonsense: 1 });
    expect(check).toThrow(/content\.subject[\s\S]*content\.html|content\.html[\s\S]*content\.subject/);
    expect(check).toThrow(/content\.nonsense/);
  });

  test('good content passes', () => {
    expect(messenger({ url: sink.url }).checkContent?.({ ...CONTENT, html: undefined })).toBeUndefined();
  });
});
