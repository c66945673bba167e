/**
 * An SMTP server that follows a script to the letter, for what a well-made server cannot be made to do: half replies, wrong
 * numbers, a connection that ends in the middle of a message. Each step answers the next line (or the whole message).
 */

import { type AddressInfo, createServer, type Socket } from 'node:net';

/** By verb: the reply's text without CRLF, `DROP` to hang up, `RAW:` text as it is and then hang up, `` for silence. */
export interface RawScript {
  readonly greeting?: string;
  readonly EHLO?: string;
  readonly AUTH?: string;
  readonly MAIL?: string;
  readonly RCPT?: string;
  readonly DATA?: string;
  /** To the first bytes of the message, before it has ended. Default: nothing. */
  readonly start?: string;
  /** To the final dot. */
  readonly dot?: string;
  readonly RSET?: string;
}

export interface RawSmtp {
  readonly url: string;
  /** Lines as they came, contents of messages left out. */
  readonly lines: string[];
  /** Bytes of messages that came, even of those that did not end. */
  readonly contentBytes: () => number;
  close(): Promise<void>;
}

const GOOD = {
  greeting: '220 raw',
  EHLO: '250 raw',
  MAIL: '250 ok',
  RCPT: '250 ok',
  DATA: '354 go on',
  start: 'WAIT',
  dot: '250 ok',
  RSET: '250 ok',
};

export async function startRawSmtp(script: RawScript): Promise<RawSmtp> {
  const replies: Record<string, string> = { ...GOOD, ...script };
  const sockets = new Set<Socket>();
  const lines: string[] = [];
  let contentBytes = 0;
  const server = createServer((socket) => {
    let inMessage = false;
    let rest = '';
    const say = (reply: string | undefined) => {
      if (reply === 'DROP') socket.destroy();
      else if (reply?.startsWith('RAW:') === true) socket.end(reply.slice(4));
      else if (reply !== undefined && reply !== '' && reply !== 'WAIT') socket.write(`${reply}\r\n`);
    };
    const step = (): boolean => {
      if (inMessage && rest === '.\r\n') {
        // No message at all: how a client gets out of one that it does not want to send any more.
        rest = '';
        inMessage = false;
        say(replies.dot);
        return true;
      }
      if (inMessage) {
        contentBytes += rest.length;
        if (replies.start !== 'WAIT') say(replies.start);
        const end = rest.indexOf('\r\n.\r\n');
        if (end < 0) return false;
        rest = rest.slice(end + 5);
        inMessage = false;
        say(replies.dot);
        return true;
      }
      const end = rest.indexOf('\r\n');
      if (end < 0) return false;
      const line = rest.slice(0, end);
      rest = rest.slice(end + 2);
      lines.push(line);
      const verb = line.slice(0, 4).toUpperCase();
      if (verb === 'QUIT') say('RAW:221 bye\r\n');
      else say(replies[verb] ?? '502 not known');
      inMessage = verb === 'DATA' && replies.DATA?.startsWith('3') === true;
      return true;
    };
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      rest += chunk.toString('latin1');
      while (step());
    });
    say(replies.greeting);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    lines,
    contentBytes: () => contentBytes,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
