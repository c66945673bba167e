/** A worker of the built package, without a compiler in the process: what an app that uses it has. Tells its peak. */
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
}, 50).unref();
await new Promise((resolve) => scheduler.on('campaign:completed', resolve));
await scheduler.stop();
process.send?.(peak);
process.disconnect?.();
