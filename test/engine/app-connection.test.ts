/** A connection of the app reads as the app wants it; the scheduler on it reads as it must. */
import { expect, it } from 'vitest';
import { watchedConnection } from '../support/commands.ts';
import { testDatabase } from '../support/mongo.ts';
import { people, startRig, tidyUpAfterEach } from './fixtures.ts';

const { db, uri } = await testDatabase();
tidyUpAfterEach(db);

it('that prefers secondaries and a majority: nothing that decides is read from a secondary', async () => {
  const url = new URL(uri);
  url.searchParams.set('readPreference', 'secondaryPreferred');
  url.searchParams.set('readConcernLevel', 'majority');
  const { connection, answered } = await watchedConnection(url.href);
  const rig = await startRig(connection);
  const { id } = await rig.create({ audience: people(20) });
  await rig.until(id, 'completed');
  expect(await rig.scheduler.campaigns.report(id)).toMatchObject({ sent: 20 });
  const elsewhere = answered.all.filter(
    ({ command }) => (command.$readPreference?.mode ?? 'primary') !== 'primary',
  );
  expect([...new Set(elsewhere.map(({ name, collection }) => `${name} ${collection}`))]).toEqual([]);
});
