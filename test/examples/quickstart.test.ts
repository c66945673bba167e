/** The README's program is an example file, and it runs: against a real database and a real mail server. */
import { readFileSync } from 'node:fs';
import { expect, inject, test } from 'vitest';
import { PATIENCE } from '../engine/provider.ts';
import { testDatabase } from '../support/mongo.ts';
import { startWorker } from '../support/processes.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const { uri } = await testDatabase();

test('the README shows the program as it is', () => {
  const program = read('examples/quickstart.ts').replace(/^\/\*\*[\s\S]*?\*\/\n/, '');
  expect(read('README.md')).toContain(`\`\`\`ts\n${program}\`\`\``);
});

test('the program sends its two messages and ends', async () => {
  expect(inject('mongoUri')).toBeTruthy();
  const sink = await startSmtpSink({});
  const program = startWorker(new URL('../../examples/quickstart.ts', import.meta.url), {
    env: { MONGO_URL: uri, SMTP_URL: sink.url },
  });
  await expect.poll(() => sink.messages.length, PATIENCE).toBe(2);
  await expect.poll(() => program.stderr(), PATIENCE).toContain('stopped');
  expect(sink.messages.map((message) => message.to.join()).sort()).toEqual([
    'ann@example.org',
    'zoe@example.org',
  ]);
  expect(
    sink.messages
      .map((message) => /^Subject: (.*)$/m.exec(message.raw)?.[1])
      .every((subject) => subject !== undefined),
  ).toBe(true);
  await program.kill();
  await sink.close();
});
