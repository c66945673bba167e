/** Windows and rates that make no sense are refused when the campaign is created, each with its field and the reason. */
import { expect, it } from 'vitest';
import { testDatabase } from '../support/mongo.ts';
import { campaignsOf, people, startRig, tidyUpAfterEach } from './fixtures.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

const DAY = { from: '09:00', to: '17:00', timezone: 'UTC' };
it('refuses them with field and reason', async () => {
  const rig = await startRig(uri, { worker: false });
  const refused: [object, string, RegExp][] = [
    [{ rate: { perSecond: 0 } }, 'rate.perSecond', /positive number, got `0`/],
    [{ rate: { perSecond: 1, perHour: 1 } }, 'rate', /one of/],
    [{ rate: {} }, 'rate', /one of/],
    [{ window: { ...DAY, days: [] } }, 'window.days', /never open/],
    [{ window: { ...DAY, to: '09:00' } }, 'window.to', /another time/],
    [{ window: { ...DAY, timezone: 'Mars/Base' } }, 'window.timezone', /IANA/],
    [{ window: { ...DAY, timezone: 'recipient' } }, 'window.fallbackTimezone', /IANA/],
    [{ window: { ...DAY, holidays: ['2030-02-30'] } }, 'window.holidays[0]', /date of the calendar/],
  ];
  for (const [input, path, message] of refused) {
    await expect(rig.create(input)).rejects.toMatchObject({
      code: 'invalid_campaign',
      problems: [{ path, message: expect.stringMatching(message) }],
    });
  }
  expect(await campaignsOf(db).countDocuments()).toBe(0);
});

it('explains windows and rates, and rates alone', async () => {
  const rig = await startRig(uri, { worker: false });
  const both = await rig.create({ window: DAY, rate: { perMinute: 1 }, audience: people(30) });
  const text = (await rig.scheduler.campaigns.explain(both.id)).join('\n');
  expect(text).toMatch(/every day from 09:00 to 17:00, UTC/);
  expect(text).toMatch(/UTC, 30 left/);
  expect(text).toMatch(/Projected end at/);
  const alone = await rig.create({ rate: { perSecond: 10 } });
  const lines = await rig.scheduler.campaigns.explain(alone.id);
  expect(lines.slice(0, 2)).toEqual(['Sends at any time.', '30 left.']);
  expect(lines[2]).toMatch(/^Projected end at 10 per second/);
});
