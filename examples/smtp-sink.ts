/**
 * The mail server of the example, as a process of its own so that it lives on when the sender is killed. It counts messages
 * by their Message-ID in a file that survives it as well. Addresses that begin with `bounce` are refused with 550.
 * It answers `GET /` on its control port with its counts, and ends by itself when nobody has asked for ten minutes.
 *
 *     tsx examples/smtp-sink.ts --tally .data/smtp-sink.tally [--port 2525] [--delay 20] [--state .data/smtp-sink.json]
 */

import { renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { startSmtpSink } from '../test/support/smtp-sink.ts';
import { openTally, type TallyCounts } from '../test/support/smtp-sink-tally.ts';

/** What the control port answers, and what stands in the state file (there without the counts). */
export interface SinkState {
  readonly pid: number;
  readonly smtpPort: number;
  readonly controlPort: number;
  readonly tally: TallyCounts;
}

const LONELY_MS = 10 * 60_000;

const { values } = parseArgs({
  options: {
    tally: { type: 'string' },
    port: { type: 'string', default: '2525' },
    delay: { type: 'string', default: '0' },
    state: { type: 'string' },
  },
});
if (values.tally === undefined) throw new Error('--tally is required: the file that the count is kept in');

const tally = openTally(values.tally);
const options = { onMessage: (message: { messageId: string }) => tally.add(message.messageId) };
const wantedPort = Number(values.port);
const sink = await startSmtpSink({ ...options, port: wantedPort }).catch((error: NodeJS.ErrnoException) => {
  if (error.code !== 'EADDRINUSE') throw error;
  return startSmtpSink(options);
});
const delayMs = Number(values.delay);
sink.plan(({ to }) => {
  if (to.startsWith('bounce')) return { rcpt: 550, text: 'no such mailbox' };
  return delayMs > 0 ? { delayMs } : {};
});

const lonely = setTimeout(end, LONELY_MS);
const control = createServer((_request, response) => {
  lonely.refresh();
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify(state()));
});
await new Promise<void>((resolve) => control.listen(0, '127.0.0.1', resolve));

function state(): SinkState {
  const controlPort = (control.address() as AddressInfo).port;
  return { pid: process.pid, smtpPort: sink.port, controlPort, tally: tally.counts() };
}

function end(): void {
  clearTimeout(lonely);
  control.close();
  control.closeAllConnections();
  void sink.close().then(() => {
    tally.close();
    if (process.connected) process.disconnect();
  });
}

process.once('SIGTERM', end);
process.once('SIGINT', end);
if (values.state !== undefined) {
  // By one rename, so that a reader never sees half of it.
  writeFileSync(`${values.state}.new`, JSON.stringify(state()));
  renameSync(`${values.state}.new`, values.state);
}
if (process.send === undefined) process.stdout.write(`${JSON.stringify(state())}\n`);
else process.send(state());
