/**
 * What is kept and told of errors, without what nobody may read there. Pure. Invariant: a password of a URL, or a value that
 * is named as a secret, is replaced before a text is stored, logged or sent anywhere.
 */

/** No secret is longer; and a text full of slashes costs no more than this for each. */
const USER_INFO = /\/\/(?:[^\s/@:]{0,256}:\S{0,512}|[^\s/]{0,512})@/g;
const NAMED =
  /((?:pass(?:word|wd)?|pwd|secret|token|api[-_]?key|authorization)["']?\s*[:=]\s*)(?:(?:bearer|basic)\s+)?("[^"]*"|'[^']*'|[^\s,;&)}]+)/gi;

/** `mongodb://ann:x@db` becomes `mongodb://***@db`, and `password: x` becomes `password: ***`. */
export function withoutSecrets(text: string): string {
  return text.replace(USER_INFO, '//***@').replace(NAMED, '$1***');
}
