/**
 * Our storage in the shape that Agenda asks for: the repository, and no logger (Agenda's own would create a second
 * collection that grows for ever).
 *
 * Invariant: `connect()` never rejects towards Agenda, where that would be an unhandled rejection and a `ready` that
 * never settles; what went wrong is told by `connected`, to whoever starts Agenda.
 */
import type { AgendaBackend } from 'agenda';
import type { AlarmRepository } from './alarm-repository.ts';

export interface AlarmBackend extends AgendaBackend {
  /** Settles within the deadline of `prepare`. */
  readonly connected: Promise<void>;
}

/** `prepare` makes the collection usable and settles within a deadline of its own. */
export function alarmBackend(repository: AlarmRepository, prepare: () => Promise<void>): AlarmBackend {
  const connected = prepare();
  return {
    name: 'MongoDB',
    repository,
    ownsConnection: false, // it belongs to the caller: Agenda must not close it
    connected,
    connect: () => connected.catch(() => new Promise<never>(() => {})),
    disconnect: async () => {},
  };
}
