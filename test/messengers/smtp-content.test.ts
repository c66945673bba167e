/** What arrives: rendered, escaped, encoded, addressed to one person, whatever the values hold. */

import { describe, expect, test } from 'vitest';
import { CONTENT, context, failureOf, mail, mailSink, messenger } from './mail.ts';

const { sink, arrived } = await mailSink();

describe('the mail', () => {
  test('has the headers a mail needs', async () => {
    const got = await arrived({ key: 'abc', vars: { first_name: 'Zoë' } });
    expect(got.headers).toMatchObject({
      from: '"News" <news@example.com>',
      to: 'ann@example.org',
      subject: 'Hello Zoë',
      'message-id': `<${'abc'.padEnd(32, '0')}@example.com>`,
      'mime-version': '1.0',
    });
    expect(Date.now() - Date.parse(got.headers.date ?? '')).toBeLessThan(60_000);
    expect(got.parts).toEqual([{ type: 'text/plain; charset=utf-8', text: 'Dear Zoë' }]);
    expect(sink.messages[0]).toMatchObject({ from: 'news@example.com', to: ['ann@example.org'] });
  });

  test('keeps its Message-ID in every attempt; the domain can be chosen', async () => {
    const email = messenger({ url: sink.url, messageIdDomain: 'bounces.example.net' });
    await email.send(mail({ key: 'same' }), context);
    await email.send({ ...mail({ key: 'same' }), attempt: 2 }, context);
    const id = `${'same'.padEnd(32, '0')}@bounces.example.net`;
    expect(sink.messages.map((message) => message.messageId)).toEqual([id, id]);
  });

  test('has both bodies, the plain one first', async () => {
    const got = await arrived({
      vars: { city: 'São Paulo' },
      content: { ...CONTENT, html: '<p>{{ city }}</p>\n.\n..dots' },
    });
    expect(got.parts).toEqual([
      { type: 'text/plain; charset=utf-8', text: 'Dear Ann' },
      { type: 'text/html; charset=utf-8', text: '<p>São Paulo</p>\r\n.\r\n..dots' },
    ]);
  });

  test.each([
    ['long lines', 'word '.repeat(1_000)],
    ['a line without a blank', 'x'.repeat(5_000)],
    ['blanks at line ends', 'one \ntwo\t\r\nthree '],
    ['equals signs', 'a=b=3D='],
    ['emoji', '🎉 for everybody 🥳'],
    ['no Latin letters', '春のニュースレター\n'.repeat(60)],
    ['bare carriage returns', 'a\rb\rc'],
    ['dots', '.\n.\n..\n.a'],
    ['nothing but a line end', '\n'],
  ])('carries %s', async (_name, text) => {
    const got = await arrived({ vars: { text }, content: { subject: 's', text: '{{ text }}!' } });
    expect(got.parts[0]?.text).toBe(`${text.replace(/\r\n|\r|\n/g, '\r\n')}!`);
    expect(got.longestLine).toBeLessThanOrEqual(78);
    expect(got.isAscii).toBe(true);
  });

  test('carries further headers, templates too; a blank one is left out', async () => {
    const headers = {
      'List-Unsubscribe': '<https://example.com/u/{{ recipient.id }}?c={{ campaign.id }}&r={{ run.id }}>',
      'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
      'X-Empty': '{{ nothing }}',
      'X-Name': '{{ first_name }}',
    };
    const got = await arrived({ vars: { first_name: 'Žofie' }, content: { ...CONTENT, headers } });
    expect(got.headers).toMatchObject({
      'list-unsubscribe': '<https://example.com/u/7?c=c1&r=r1>',
      'list-unsubscribe-post': 'List-Unsubscribe=One-Click',
      'x-name': 'Žofie',
    });
    expect(got.headers).not.toHaveProperty('x-empty');
  });

  test('folds long headers and keeps every word', async () => {
    const subject = 'a long subject with many words '.repeat(20).trim();
    const got = await arrived({ content: { subject, text: 'x' } });
    expect(got.headers.subject).toBe(subject);
    expect(got.longestLine).toBeLessThanOrEqual(78);
  });

  test('encodes the name of the sender and the domains of both', async () => {
    const from = { name: 'Müller "die" Bäckerei, Köln', address: 'post@bäckerei.example' };
    const got = await arrived({ to: "o'neil+news@grüße.example" }, { from });
    expect(got.headers.from).toBe('Müller "die" Bäckerei, Köln <post@xn--bckerei-5wa.example>');
    expect(got.headers.to).toBe("o'neil+news@xn--gre-6ka8l.example");
  });
});

describe('hostile values', () => {
  const HOSTILE = [
    'x\r\nBcc: victim@example.com',
    'x\nBcc: victim@example.com',
    'x\rBcc: victim@example.com',
    'x\r\n\r\n<h1>body</h1>',
    'x\r\n.\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\n',
    'x\u2028Bcc: victim@example.com',
    'x\u0085Bcc: victim@example.com',
    'x\0Bcc: victim@example.com',
    '=?utf-8?B?DQpCY2M6IHZpY3RpbUBleGFtcGxlLmNvbQ==?=',
    `${'x'.repeat(2_000)}\r\nBcc: victim@example.com`,
  ];

  test.each(HOSTILE)('%j in a subject and a header stays in it', async (first_name) => {
    const content = { ...CONTENT, headers: { 'X-Name': '{{ first_name }}' } };
    const got = await arrived({ vars: { first_name }, content });
    const flat = first_name.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim();
    expect(Object.keys(got.headers).sort()).toEqual([
      'content-transfer-encoding',
      'content-type',
      'date',
      'from',
      'message-id',
      'mime-version',
      'subject',
      'to',
      'x-name',
    ]);
    expect(got.headers.subject).toBe(`Hello ${flat}`);
    expect(got.headers['x-name']).toBe(flat);
    expect(got.longestLine).toBeLessThan(998);
    expect(sink.messages[0]?.to).toEqual(['ann@example.org']);
  });

  test.each(HOSTILE)('%j in a body stays in the body', async (first_name) => {
    const got = await arrived({ vars: { first_name } });
    expect(got.parts[0]?.text).toBe(`Dear ${first_name.replace(/\r\n|\r|\n/g, '\r\n')}`);
    expect(sink.messages).toHaveLength(1);
  });

  test.each([
    'ann@example.org, victim@example.com',
    'ann@example.org,victim@example.com',
    'ann@example.org;victim@example.com',
    'Ann <ann@example.org>',
    '<ann@example.org>',
    'ann@example.org>\r\nRCPT TO:<victim@example.com',
    'ann@example.org\r\nBcc: victim@example.com',
    'ann@example.org\n',
    'ann@example.org NOTIFY=NEVER',
    'group: ann@example.org;',
    '"a b"@example.org',
    'ann@exa mple.org',
    'ann@\0example.org',
    'ann',
    '@example.org',
    'ann@',
    'ann@@example.org',
    'a'.repeat(65).concat('@example.org'),
  ])('%j is not an address: permanent', async (to) => {
    const failure = await failureOf(messenger({ url: sink.url }).send(mail({ to }), context));
    expect(failure).toMatchObject({ kind: 'permanent', code: 'EADDRESS' });
    expect(sink.messages).toHaveLength(0);
  });

  test('values are escaped in HTML and nowhere else', async () => {
    const evil = `<script>alert("1")</script>&'`;
    const got = await arrived({
      vars: { evil, list: [evil], deep: { evil } },
      content: {
        subject: '{{ evil }}',
        text: '{{ evil }}',
        html: '{{ evil }}|{{ list | join }}|{{ deep.evil }}|{% if true %}{{ evil }}{% endif %}|{{ evil | raw }}',
      },
    });
    const escaped = '&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;';
    expect(got.headers.subject).toBe(evil);
    expect(got.parts.map((part) => part.text)).toEqual([evil, `${Array(4).fill(escaped).join('|')}|${evil}`]);
  });

  test('a value cannot be a template', async () => {
    const got = await arrived({ vars: { first_name: '{{ campaign.id }}{% raw %}' } });
    expect(got.parts[0]?.text).toBe('Dear {{ campaign.id }}{% raw %}');
  });

  test('the named objects win over values of their names, and nothing inherited is seen', async () => {
    const text =
      '{{ campaign.id }} {{ run.occurrence }} {{ recipient.id }}[{{ constructor }}{{ toString }}{{ __proto__ }}]';
    const got = await arrived({ vars: { campaign: 'mine', run: 1 }, content: { subject: 's', text } });
    expect(got.parts[0]?.text).toBe('c1 once 7[]');
  });
});
