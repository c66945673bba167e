/**
 * A worker process of the brown-out test: it sends mail to a scripted server, and writes down when every hand-over and
 * every look at the server begins and ends, and what it hears of the breaker, in a log that all workers share.
 */
import { type Messenger, smtpMessenger, startCampaignScheduler } from '../../src/index.ts';
import { type BrownOutOrder, lineWriter } from './brown-out-log.ts';
import { TIMES } from './times.ts';

process.on('message', (order: BrownOutOrder) => {
  start(order).catch((error: unknown) => {
    process.send?.({ kind: 'refused', error: error instanceof Error ? error.stack : String(error) });
  });
});

async function start({ uri, logFile, smtp, options }: BrownOutOrder): Promise<void> {
  const write = lineWriter(logFile);
  const mail = smtpMessenger({ url: smtp, from: 'news@example.org', connections: 4, timeoutMs: 6_000 });
  const noting = async <T>(what: 'send' | 'verify', work: () => Promise<T>): Promise<T> => {
    write({ kind: 'begin', what });
    try {
      return await work();
    } finally {
      write({ kind: 'end', what });
    }
  };
  const messenger: Messenger = {
    ...mail,
    send: (message, context) => noting('send', () => mail.send(message, context)),
    verify: () => noting('verify', async () => mail.verify?.()),
  };
  const tell = (level: string) => (fields: object, message: string) =>
    process.send?.({ kind: 'log', level, message, fields: JSON.stringify(fields) });
  const quiet = () => undefined;
  const scheduler = await startCampaignScheduler({
    mongo: uri,
    messengers: { mail: messenger },
    logger: { debug: quiet, info: quiet, warn: tell('warn'), error: tell('error') },
    ...TIMES,
    ...options,
  });
  scheduler.on('breaker:opened', ({ openings, detail }) => write({ kind: 'opened', openings, detail }));
  scheduler.on('breaker:half-open', () => write({ kind: 'half-open' }));
  scheduler.on('breaker:closed', () => write({ kind: 'closed' }));
  process.send?.({ kind: 'started' });
}
