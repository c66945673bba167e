/** A provider asks one worker for a rest: the other one keeps it too, other messengers do not, and then all goes on. */
import { expect, it, onTestFinished } from 'vitest';
import { DeliveryError } from '../../src/messengers/messenger.ts';
import { smtpMessenger } from '../../src/messengers/smtp.ts';
import type { RateDoc } from '../../src/store/documents.ts';
import { messengerRateKey } from '../../src/store/rates.ts';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { pagesOf, people, startTimedRig, tidyUpAfterEach } from './fixtures.ts';
import { newProvider, PATIENCE } from './provider.ts';
import { LONG_HELD } from './test-clock.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const rates = db.collection<RateDoc>('rates');
const restUntil = async (): Promise<number> =>
  (await rates.findOne({ _id: messengerRateKey('post') }))?.blockedUntil?.getTime() ?? 0;
/** The wait of a worker is counted in whole milliseconds. */
const ROUNDED_MS = 20;

/** Two workers with messengers of their own for one provider, `post`, and one in common, `other`. */
async function twoWorkers() {
  const [post, postThere, other] = [newProvider(), newProvider(), newProvider()];
  const messengers = { other: other.messenger };
  const connectionThere = await watchedConnection(uri);
  const { rig: here, clock } = await startTimedRig(uri, {
    messengers: { ...messengers, post: post.messenger },
  });
  const { rig: there } = await startTimedRig(
    connectionThere.connection,
    { messengers: { ...messengers, post: postThere.messenger } },
    clock,
  );
  return { here, there, post, postThere, other, clock, connectionThere };
}

it.each<[string, { code: string; retryAfterMs?: number }]>([
  ['429 with Retry-After', { code: '429', retryAfterMs: 60_000 }],
  ['421', { code: '421' }],
])('%s', async (_what, answer) => {
  const { here, there, post, postThere, other, clock, connectionThere } = await twoWorkers();
  const begun: number[] = [];
  const note = () => void begun.push(Date.now());
  let refused = 0;
  post.plan(() => {
    note();
    if (refused > 0) return undefined;
    refused += 1;
    throw new DeliveryError('provider', 'too much', answer);
  });
  postThere.plan(note);
  const [gate, gateThere] = [post.hold(), postThere.hold()];
  const { id } = await here.create({ audience: people(60), concurrency: 2 });
  await Promise.all([post.calls.count(2), postThere.calls.count(2)]);

  gate.open(); // of the two in flight here one is refused, the other is taken
  await expect.poll(restUntil, PATIENCE).toBeGreaterThan(0);
  // The second look is begun when the first one has been heeded.
  for (let look = 0; look < 2; look += 1) await connectionThere.nextOf('find', 'rates');
  const calls = () => [post.calls.all.length, postThere.calls.all.length];
  const before = calls();
  gateThere.open();
  if (answer.retryAfterMs !== undefined) {
    // Nobody keeps a page for so long a rest.
    await expect.poll(() => pagesOf(db).countDocuments({ status: 'claimed' }), PATIENCE).toBe(0);
    const free = await there.create({ messenger: 'other', audience: people(40, 'o') });
    await there.until(free.id, 'completed');
    expect(other.left).toHaveLength(40);
    expect(calls()).toEqual(before);
    // Most of the rest passes: by the workers' clock, and by the server's, which cannot be moved.
    const passMs = 58_000;
    await rates.updateOne(
      { _id: messengerRateKey('post') },
      { $set: { blockedUntil: new Date((await restUntil()) - passMs) } },
    );
    const again = post.hold(); // or one worker could be so quick that nothing is left for the other
    clock.advance(passMs);
    await expect.poll(() => postThere.left.length, PATIENCE).toBeGreaterThan(2);
    again.open();
  }
  const until = await restUntil();
  const left = () => post.left.length + postThere.left.length;
  await expect.poll(left, PATIENCE).toBeGreaterThanOrEqual(59);
  clock.advance(70_000); // whoever was refused comes after the others, when as long a time has passed again
  await here.until(id, 'completed');
  expect(await here.scheduler.campaigns.report(id)).toMatchObject({ sent: 60, unknown: 0, failed: 0 });
  // Two had begun on each side before anybody knew.
  expect(begun.length).toBe(61);
  expect(Math.min(...begun.slice(4))).toBeGreaterThanOrEqual(until - ROUNDED_MS);
  const sent = [...post.left, ...postThere.left];
  expect(new Set(sent).size).toBe(60);
  expect(sent).toHaveLength(60);
  expect(postThere.left.length).toBeGreaterThan(2);
});

it('421 of an SMTP server: every worker is told, and each mail arrives once when it takes mail again', async () => {
  const sink = await startSmtpSink();
  onTestFinished(() => sink.close());
  let refuses = true;
  sink.plan(() => (refuses ? { mail: 421, text: 'too many connections' } : {}));
  const email = () => smtpMessenger({ url: sink.url, from: 'news@example.org' });
  const { rig: here, clock } = await startTimedRig(uri, { messengers: { post: email() }, ...LONG_HELD });
  await startTimedRig(uri, { messengers: { post: email() }, ...LONG_HELD }, clock);
  const { id } = await here.create({ audience: people(20), content: { subject: 'News', text: 'hello' } });
  await expect.poll(restUntil, PATIENCE).toBeGreaterThan(0);
  refuses = false;
  const to = () => sink.messages.flatMap((message) => message.to);
  const wait = async () => {
    clock.advance(1_000); // past the back-offs
    return (await here.scheduler.campaigns.find(id))?.status;
  };
  await expect.poll(wait, { ...PATIENCE, interval: 200 }).toBe('completed');
  expect(await here.scheduler.campaigns.report(id)).toMatchObject({ sent: 20, unknown: 0, failed: 0 });
  expect(new Set(to()).size).toBe(20);
  expect(to()).toHaveLength(20);
});
