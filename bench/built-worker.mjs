/**
 * A worker of the built package without a compiler in its process: what an app has. Says `ready` when it runs; when a
 * campaign is completed, stops and tells the most memory it had, bytes.
 */
import { startCampaignScheduler } from 'campaign-scheduler';

const quiet = { debug: () => undefined, info: () => undefined, warn: console.error, error: console.error };
const scheduler = await startCampaignScheduler({
  mongo: process.env.MONGO_URL ?? '',
  logger: quiet,
  messengers: { null: { send: async () => ({ status: 'sent' }) } },
});
let peak = 0;
setInterval(() => {
  peak = Math.max(peak, process.memoryUsage().rss);
}, 100).unref();
process.send?.('ready');
await new Promise((resolve) => scheduler.on('campaign:completed', resolve));
await scheduler.stop();
process.send?.(peak);
process.disconnect?.();
