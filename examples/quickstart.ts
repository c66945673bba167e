/** The first program of the README: one campaign to two people. */
import { smtpMessenger, startCampaignScheduler } from 'campaign-scheduler';

const scheduler = await startCampaignScheduler({
  mongo: process.env.MONGO_URL ?? 'mongodb://127.0.0.1:27017/campaigns',
  messengers: {
    email: smtpMessenger({
      url: process.env.SMTP_URL ?? 'smtp://127.0.0.1:2525',
      from: 'News <news@example.com>',
    }),
  },
});
scheduler.on('campaign:completed', async ({ campaign, report }) => {
  console.log(`${campaign.name}: ${report.sent} sent, ${report.failed} failed, ${report.unknown} unknown`);
  await scheduler.stop();
});
await scheduler.campaigns.create({
  name: 'Hello',
  messenger: 'email',
  content: { subject: 'Hello {{ first_name }}', text: 'Dear {{ first_name }}, it works.' },
  audience: [
    { id: '1', to: 'ann@example.org', vars: { first_name: 'Ann' } },
    { id: '2', to: 'zoe@example.org', vars: { first_name: 'Zoë' } },
  ],
});
