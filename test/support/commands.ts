/** A connection whose commands a test can count and wait for. */
import type { Document } from 'mongodb';
import mongoose, { type Connection } from 'mongoose';
import { onTestFinished } from 'vitest';
import { Signals } from '../queue/signals.ts';

export interface AnsweredCommand {
  /** As MongoDB calls it: `find`, `update`, `findAndModify`, … */
  readonly name: string;
  readonly collection: string;
  readonly command: Document;
}

export interface WatchedConnection {
  readonly connection: Connection;
  /** Every command that was answered, in order of the answers. Those that only keep the connection alive are left out. */
  readonly answered: Signals<AnsweredCommand>;
  /** Waits for the answer to a command of this kind that is begun from now on. */
  nextOf(name: string, collection: string): Promise<void>;
}

const UNCOUNTED: ReadonlySet<string> = new Set(['hello', 'ping', 'endSessions']);

/** Closed after the test, when the schedulers that use it have been stopped. */
export async function watchedConnection(uri: string): Promise<WatchedConnection> {
  const connection = await mongoose
    .createConnection(uri, { monitorCommands: true, autoIndex: false, autoCreate: false })
    .asPromise();
  const answered = new Signals<AnsweredCommand>('answered commands');
  const begun = new Map<number, AnsweredCommand>();
  const client = connection.getClient();
  client.on('commandStarted', ({ commandName: name, command, requestId }) => {
    begun.set(requestId, { name, collection: String(command[name]), command });
  });
  client.on('commandSucceeded', ({ requestId }) => {
    const command = begun.get(requestId);
    begun.delete(requestId);
    if (command !== undefined && !UNCOUNTED.has(command.name)) answered.emit(command);
  });
  client.on('commandFailed', ({ requestId }) => begun.delete(requestId));
  onTestFinished(() => connection.close());
  return {
    connection,
    answered,
    nextOf: async (name, collection) => {
      const before = new Set(begun.values());
      for (let seen = answered.all.length; ; seen += 1) {
        await answered.count(seen + 1);
        const found = answered.all[seen];
        if (found?.name === name && found.collection === collection && !before.has(found)) return;
      }
    },
  };
}
