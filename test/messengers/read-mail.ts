/** Reads a mail back, written for the tests from the RFCs and not from the code that writes it. */

export interface ReadMail {
  /** By lower-case name, unfolded and decoded. A header that comes twice is an error. */
  readonly headers: Readonly<Record<string, string>>;
  readonly parts: ReadonlyArray<{ readonly type: string; readonly text: string }>;
  /** Characters of the longest line of the whole mail. */
  readonly longestLine: number;
  readonly isAscii: boolean;
}

export function readMail(raw: string): ReadMail {
  if (/\r(?!\n)|(?<!\r)\n/.test(raw)) throw new Error('a bare CR or LF in the mail');
  const { headers, body } = split(raw);
  const boundary = /boundary="([^"]+)"/.exec(headers['content-type'] ?? '')?.[1];
  // The line end before a boundary belongs to the boundary.
  const sections = boundary === undefined ? [] : `\r\n${body}`.split(`\r\n--${boundary}`);
  if (boundary !== undefined && sections.at(-1)?.trim() !== '--') throw new Error('no closing boundary');
  const parts =
    boundary === undefined
      ? [part(raw.replace(/\r\n$/, ''))]
      : sections.slice(1, -1).map((text) => part(text.slice(2)));
  return {
    headers,
    parts,
    longestLine: Math.max(...raw.split('\r\n').map((line) => line.length)),
    isAscii: /^[\x20-\x7e\r\n\t]*$/.test(raw),
  };
}

function part(raw: string): { type: string; text: string } {
  const { headers, body } = split(raw);
  return {
    type: headers['content-type'] ?? '',
    text: decoded(body, headers['content-transfer-encoding'] ?? ''),
  };
}

function split(raw: string): { headers: Record<string, string>; body: string } {
  const end = raw.indexOf('\r\n\r\n');
  const headers: Record<string, string> = {};
  for (const line of raw
    .slice(0, end)
    .replace(/\r\n(?=[ \t])/g, '')
    .split('\r\n')) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon < 1 || !/^[a-z0-9-]+$/.test(name)) throw new Error(`not a header: ${line}`);
    if (name in headers) throw new Error(`twice: ${name}`);
    headers[name] = words(line.slice(colon + 1).trim());
  }
  return { headers, body: raw.slice(end + 4) };
}

/** RFC 2047: blanks between two encoded words do not count. */
function words(value: string): string {
  return value
    .replace(/(=\?[^?]+\?B\?[^?]*\?=)\s+(?==\?)/gi, '$1')
    .replace(/=\?utf-8\?B\?([^?]*)\?=/gi, (_all, text: string) => Buffer.from(text, 'base64').toString());
}

function decoded(body: string, encoding: string): string {
  if (encoding === 'base64') return Buffer.from(body, 'base64').toString();
  if (encoding !== 'quoted-printable') throw new Error(`unknown encoding ${encoding}`);
  const bytes = body
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString();
}
