/** The routes of a scheduler in a process of their own, and how long their answers take. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { type CampaignScheduler, createCampaignRouter } from '../src/index.ts';
import { median } from './report.ts';

const REQUESTS = 100;

export async function serve(scheduler: CampaignScheduler): Promise<{ port: number; close: () => void }> {
  const app = express();
  app.use(createCampaignRouter(scheduler, { authorize: () => true }));
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Asks a hundred times, and says what half and what 95 of 100 answers took at most. */
export async function askOften(port: number, route: string): Promise<{ p95: number; value: string }> {
  const took: number[] = [];
  for (let n = 0; n < REQUESTS; n += 1) {
    const from = performance.now();
    const response = await fetch(`http://127.0.0.1:${port}${route}`);
    await response.text();
    took.push(performance.now() - from);
    if (!response.ok) throw new Error(`${route} answered ${response.status}`);
    await sleep(50);
  }
  const p95 = took.sort((a, b) => a - b)[Math.floor(REQUESTS * 0.95)] ?? Number.NaN;
  return { p95, value: `${median(took).toFixed(1)} ms, ${p95.toFixed(1)} ms` };
}

/** The port that a process tells first. */
export async function firstMessage(child: ChildProcess): Promise<number> {
  const [port] = (await once(child, 'message')) as [number];
  return port;
}
