/**
 * Writes a mail as text: headers, and one or two bodies in quoted-printable or base64. Composed by hand because a general
 * composer takes longer than the whole SMTP dialogue. Invariant: whatever the values hold, no value can end its header,
 * and every line is ASCII and at most 998 characters long.
 */

import { domainToASCII } from 'node:url';

export interface MailParts {
  /** As for a `From` header, already encoded: `mailbox()`. */
  readonly from: string;
  /** A bare address, checked by the caller. */
  readonly to: string;
  readonly subject: string;
  /** With the angle brackets. */
  readonly messageId: string;
  readonly date: Date;
  /** Further headers by name; a blank value leaves the header out. */
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>;
  readonly html: string | undefined;
  readonly text: string | undefined;
}

const LINE = 76;
/** Bytes whose encoded word (`=?utf-8?B?…?=`) still fits a line behind the name of a header. */
const WORD_BYTES = 39;
/** Names never inside a body: a body is encoded and has neither a `_` after a `=` nor such a line. */
const BOUNDARY = '=_campaign_part';

/** The mail with CRLF line ends; dots at the start of a line are left to the connection. */
export function composeMail(parts: MailParts): string {
  let head = `From: ${parts.from}\r\n${header('To', parts.to)}${header('Subject', parts.subject)}`;
  head += `Message-ID: ${parts.messageId}\r\nDate: ${dateHeader(parts.date)}\r\n`;
  for (const [name, value] of parts.headers) head += header(name, value);
  head += 'MIME-Version: 1.0\r\n';
  const { html, text } = parts;
  if (html === undefined || text === undefined) {
    return `${head}${html === undefined ? body('plain', text ?? '') : body('html', html)}\r\n`;
  }
  return (
    `${head}Content-Type: multipart/alternative; boundary="${BOUNDARY}"\r\n\r\n` +
    `--${BOUNDARY}\r\n${body('plain', text)}\r\n--${BOUNDARY}\r\n${body('html', html)}\r\n--${BOUNDARY}--\r\n`
  );
}

/**
 * The value as it may stand in an envelope and in a header, or `undefined` when it is not one bare address: it can then
 * neither add another recipient nor end its line. The domain may be international, it comes back as ASCII.
 */
export function bareAddress(value: string): string | undefined {
  const [, local, domain] =
    /^([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64})@([^\s@<>()[\]\\,;:"]{1,255})$/.exec(value) ?? [];
  const ascii = domainToASCII(domain ?? '');
  return local === undefined || ascii === '' ? undefined : `${local}@${ascii}`;
}

/** `Name <address>` for a header, the name quoted or encoded as it needs. */
export function mailbox(name: string | undefined, address: string): string {
  const shown = oneLine(name ?? '');
  if (shown === '') return address;
  const safe = isPlainText(shown) ? `"${shown.replace(/["\\]/g, '\\$&')}"` : encodedWords(shown);
  return `${safe}\r\n <${address}>`;
}

/** Line ends and other control characters become spaces, so that a value cannot start a header of its own. */
export function oneLine(value: string): string {
  return value.replace(CONTROL, ' ').trim();
}

// The line and paragraph separators of Unicode are no line ends in mail, but some programs take them for such.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

function header(name: string, value: string): string {
  const line = oneLine(value);
  if (line === '' && name !== 'Subject') return '';
  if (!isPlainText(line)) return `${name}: ${encodedWords(line)}\r\n`;
  return name.length + line.length + 2 <= LINE ? `${name}: ${line}\r\n` : fold(name, line);
}

/** ASCII that nobody can take for an encoded word. */
function isPlainText(value: string): boolean {
  return /^[\x20-\x7e]*$/.test(value) && !value.includes('=?');
}

/** Breaks before a space; a word that no line can hold is sent as encoded words. */
function fold(name: string, value: string): string {
  let lines = `${name}:`;
  let length = lines.length;
  for (const word of value.split(/ +/)) {
    if (word.length > 900) return `${name}: ${encodedWords(value)}\r\n`;
    const breaks = length + 1 + word.length > LINE && length > name.length + 1;
    lines += breaks ? `\r\n ${word}` : ` ${word}`;
    length = breaks ? 1 + word.length : length + 1 + word.length;
  }
  return `${lines}\r\n`;
}

/** RFC 2047, base64; a character is never split over two words. */
function encodedWords(value: string): string {
  const words: string[] = [];
  let part = '';
  let bytes = 0;
  for (const character of value) {
    const size = Buffer.byteLength(character);
    if (bytes + size > WORD_BYTES) {
      words.push(part);
      part = '';
      bytes = 0;
    }
    part += character;
    bytes += size;
  }
  words.push(part);
  return words.map((word) => `=?utf-8?B?${Buffer.from(word).toString('base64')}?=`).join('\r\n ');
}

function body(subtype: 'plain' | 'html', content: string): string {
  const bytes = Buffer.from(content);
  const printable = quotedPrintable(bytes);
  // Text in Latin letters stays readable; other scripts would triple in size.
  const base64 = printable.length > bytes.length * 1.6;
  const encoded = base64 ? base64Lines(content) : printable;
  return (
    `Content-Type: text/${subtype}; charset=utf-8\r\n` +
    `Content-Transfer-Encoding: ${base64 ? 'base64' : 'quoted-printable'}\r\n\r\n${encoded}`
  );
}

/** Base64 keeps line ends as they are, and in mail they are CRLF. */
function base64Lines(content: string): string {
  const text = Buffer.from(content.replace(/\r\n|\r|\n/g, '\r\n'));
  return text.toString('base64').replace(/.{76}/g, '$&\r\n');
}

const CR = 13;
const LF = 10;
const EQUALS = 61;
const HEX = Buffer.from('0123456789ABCDEF');
/** 1: stands for itself. 2: a blank, which does so unless it ends a line. 0: is encoded. */
const LITERAL = new Uint8Array(256);
for (let byte = 33; byte <= 126; byte += 1) LITERAL[byte] = byte === EQUALS ? 0 : 1;
LITERAL[32] = 2;
LITERAL[9] = 2;

/** Used again for every body, as long as it is large enough; nothing of it outlives the call. */
let scratch = Buffer.allocUnsafe(32 * 1024);

/** RFC 2045 6.7. Every kind of line end becomes CRLF; lines are at most 76 long. */
function quotedPrintable(bytes: Buffer): string {
  // Three characters for a byte at most, and three more for each 73 of them for the soft line end.
  const most = Math.ceil(bytes.length * 3.2) + 16;
  if (scratch.length < most) scratch = Buffer.allocUnsafe(most);
  const out = scratch;
  const end = bytes.length;
  let size = 0;
  let column = 0;
  for (let at = 0; at < end; at += 1) {
    const byte = bytes[at] as number;
    if (byte === CR || byte === LF) {
      if (byte === CR && bytes[at + 1] === LF) at += 1;
      out[size++] = CR;
      out[size++] = LF;
      column = 0;
      continue;
    }
    const next = bytes[at + 1];
    const lastOfLine = next === undefined || next === CR || next === LF;
    const kind = LITERAL[byte];
    const literal = kind === 1 || (kind === 2 && !lastOfLine);
    // The last place of a line belongs to the soft line end.
    if (column + (literal ? 1 : 3) > LINE - 1) {
      out[size++] = EQUALS;
      out[size++] = CR;
      out[size++] = LF;
      column = 0;
    }
    if (literal) {
      out[size++] = byte;
      column += 1;
    } else {
      out[size++] = EQUALS;
      out[size++] = HEX[byte >> 4] as number;
      out[size++] = HEX[byte & 15] as number;
      column += 3;
    }
  }
  return out.toString('latin1', 0, size);
}

/** `Tue, 03 Jun 2025 10:00:00 +0000` (RFC 5322). */
function dateHeader(date: Date): string {
  return date.toUTCString().replace('GMT', '+0000');
}
