/**
 * The options of the SMTP messenger, checked and resolved once. Invariant: no message of this file shows a URL, a user or
 * a password, and `redact` takes both out of whatever the server says.
 */

import { domainToASCII } from 'node:url';
import { type Problem, ValidationError } from '../errors.ts';
import { expectation, integerProblems, unknownKey } from '../input-checks.ts';
import type { SmtpServer } from './smtp-connection.ts';
import { bareAddress } from './smtp-mime.ts';

export interface SmtpMessengerOptions {
  /**
   * `smtp://user:password@host:587` (STARTTLS when the server offers it) or `smtps://user:password@host` (TLS from the
   * start). Special characters percent-encoded. Exactly one of `url` and `transport` is required.
   */
  readonly url?: string | undefined;
  /** The same as separate values, with the names nodemailer uses for them. */
  readonly transport?: SmtpServer | undefined;
  /** Sender of every mail: `news@example.com`, `Example News <news@example.com>`, or the two parts. Required. */
  readonly from: string | { readonly name?: string | undefined; readonly address: string };
  /** Connections, and so mails under way, at the same time, 1 to 1000. Default: 10. */
  readonly connections?: number | undefined;
  /** Right side of the `Message-ID`. Default: the domain of `from`. */
  readonly messageIdDomain?: string | undefined;
  /**
   * Milliseconds one mail may take, connecting included, 1000 to 600000; keep it below the scheduler's `sendTimeoutMs`,
   * so that this messenger is the one to say whether the mail can have left. Default: 25000.
   */
  readonly timeoutMs?: number | undefined;
}

export interface ResolvedSmtpOptions {
  readonly server: SmtpServer;
  readonly from: { readonly name?: string; readonly address: string };
  readonly connections: number;
  readonly messageIdDomain: string;
  readonly timeoutMs: number;
  /** Text without user and password, in plain form or as they go over the line. */
  readonly redact: (text: string) => string;
}

const KEYS = ['url', 'transport', 'from', 'connections', 'messageIdDomain', 'timeoutMs'];
const SERVER_KEYS = ['host', 'port', 'secure', 'requireTLS', 'ignoreTLS', 'auth', 'tls', 'name'];
const URL_FORM = 'smtp://user:password@host:port or smtps://…, special characters percent-encoded';

/** @throws ValidationError with every problem at once. */
export function resolveSmtpOptions(options: SmtpMessengerOptions): ResolvedSmtpOptions {
  const problems: Problem[] = [];
  const problem = (path: string, message: string): undefined => {
    problems.push({ path, message });
    return undefined;
  };
  const unknownKeys = (path: string, given: object, known: readonly string[]) => {
    for (const key of Object.keys(given)) {
      if (known.includes(key)) continue;
      problem(path + key, unknownKey(key, path + key, known));
    }
  };
  const integer = (path: 'connections' | 'timeoutMs', least: number, most: number, standard: number) => {
    const value = options[path] ?? standard;
    problems.push(...integerProblems(path, value, least, most));
    return value;
  };

  unknownKeys('', options, KEYS);
  const server = (): SmtpServer | undefined => {
    const { url, transport } = options;
    if ((url === undefined) === (transport === undefined)) {
      return problem('url', 'Expected exactly one of `url` and `transport`');
    }
    if (url !== undefined) return serverOf(url) ?? problem('url', `Expected \`url\` to be ${URL_FORM}`);
    if (typeof transport !== 'object' || transport === null || 'sendMail' in transport) {
      const message =
        'Expected `transport` to be an object with host, port, auth; a ready transport is not taken';
      return problem('transport', `${message}, because it cannot say whether a lost mail had left`);
    }
    unknownKeys('transport.', transport, SERVER_KEYS);
    if (typeof transport.host !== 'string' || transport.host === '') {
      problem('transport.host', expectation('transport.host', 'the name of a server', transport.host));
    }
    const { auth } = transport;
    if (auth !== undefined && (typeof auth?.user !== 'string' || typeof auth.pass !== 'string')) {
      problem('transport.auth', 'Expected `transport.auth` to be an object with user and pass');
    }
    return transport;
  };
  const resolved = server();
  const from = senderOf(options.from);
  if (from === undefined) {
    const forms = 'an address, `Name <address>` or { name, address }, without line ends';
    problem('from', expectation('from', forms, options.from));
  }
  const domain = domainToASCII(options.messageIdDomain ?? from?.address.split('@')[1] ?? '');
  if (options.messageIdDomain !== undefined && !/^[A-Za-z0-9.-]+$/.test(domain)) {
    problem(
      'messageIdDomain',
      expectation('messageIdDomain', 'the name of a domain', options.messageIdDomain),
    );
  }
  const connections = integer('connections', 1, 1_000, 10);
  const timeoutMs = integer('timeoutMs', 1_000, 600_000, 25_000);
  if (problems.length > 0 || resolved === undefined || from === undefined) {
    throw new ValidationError('invalid_options', 'These options of smtpMessenger are wrong', problems);
  }
  return {
    server: resolved,
    from,
    connections,
    messageIdDomain: domain,
    timeoutMs,
    redact: redaction(resolved),
  };
}

/** Read here and not by nodemailer, whose errors (and Node's own) show the URL. */
function serverOf(url: unknown): SmtpServer | undefined {
  if (typeof url !== 'string' || !URL.canParse(url)) return undefined;
  const { protocol, hostname, port, username, password, pathname, search, hash } = new URL(url);
  const secure = protocol === 'smtps:';
  if ((!secure && protocol !== 'smtp:') || hostname === '') return undefined;
  if ((pathname !== '' && pathname !== '/') || search !== '' || hash !== '') return undefined;
  try {
    const host = decodeURIComponent(hostname).replace(/^\[|\]$/g, '');
    const auth = { user: decodeURIComponent(username), pass: decodeURIComponent(password) };
    return {
      host,
      ...(port === '' ? {} : { port: Number(port) }),
      ...(secure ? { secure } : {}),
      ...(username === '' && password === '' ? {} : { auth }),
    };
  } catch {
    return undefined;
  }
}

function senderOf(from: unknown): { name?: string; address: string } | undefined {
  let name: unknown;
  let address: unknown = from;
  if (typeof from === 'string') {
    const parts = /^\s*(?:"([^"]*)"|([^"<>]*?))\s*<([^<>]*)>\s*$/.exec(from);
    if (parts !== null) [name, address] = [parts[1] ?? parts[2], parts[3]];
  } else if (typeof from === 'object' && from !== null) {
    name = Reflect.get(from, 'name');
    address = Reflect.get(from, 'address');
  }
  const bare = typeof address === 'string' ? bareAddress(address) : undefined;
  if (bare === undefined) return undefined;
  if (name === undefined || name === '') return { address: bare };
  if (typeof name !== 'string' || /[\r\n]/.test(name)) return undefined;
  return { name, address: bare };
}

function redaction({ auth }: SmtpServer): (text: string) => string {
  if (auth === undefined) return (text) => text;
  const { user, pass } = auth;
  const secrets = [user, pass, `\0${user}\0${pass}`]
    .filter((secret) => secret !== '')
    .flatMap((secret) => [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')])
    .sort((one, other) => other.length - one.length);
  return (text) => secrets.reduce((left, secret) => left.replaceAll(secret, '***'), text);
}
