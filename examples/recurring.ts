/** A campaign that recurs: what its rule means, when it comes next, and three runs of it. */
import { dryRunMessenger, startCampaignScheduler } from 'campaign-scheduler';

const scheduler = await startCampaignScheduler({
  mongo: process.env.MONGO_URL ?? 'mongodb://127.0.0.1:27017/campaigns',
  messengers: { dry: dryRunMessenger() },
  // Read anew for each occurrence.
  audiences: { team: () => [{ id: '1', to: 'ann@example.org' }] },
});
const weekly = { weekly: { on: ['monday', 'friday'], at: '09:00' }, timezone: 'Europe/Berlin' } as const;
const { description, occurrences } = scheduler.previewSchedule({ recurrence: weekly, count: 3 });
console.log(`${description}: ${occurrences.map((at) => at.toISOString()).join(', ')}`);

scheduler.on('run:completed', ({ run, report }) => console.log(`${run.occurrence}: ${report.sent} sent`));
scheduler.on('campaign:completed', () => scheduler.stop());
await scheduler.campaigns.create({
  name: 'Report',
  messenger: 'dry',
  content: { text: 'All is well.' },
  audience: { source: 'team' },
  recurrence: { every: { seconds: 1 }, maxRuns: 3, overlap: 'queue' },
});
