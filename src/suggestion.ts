/** "Did you mean …?" for names typed by people: options, messengers, audience sources. Suggests only what is close. */

import { distance } from 'fastest-levenshtein';

/**
 * The known name that `name` most likely was meant to be, or `undefined` when none is close enough (a third of its
 * letters may differ, at least one). Upper and lower case, `-` and `_` do not count.
 */
export function suggest(name: string, known: Iterable<string>): string | undefined {
  const wanted = plain(name.slice(0, 100));
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.round(wanted.length / 3)) + 1;
  for (const candidate of known) {
    const letters = plain(candidate);
    const away = distance(wanted, letters);
    // Two names of two letters are always "close"; at least one letter has to stay.
    if (away < bestDistance && away < Math.max(wanted.length, letters.length)) {
      best = candidate;
      bestDistance = away;
    }
  }
  return best;
}

/**
 * One sentence to end a message about an unknown name: ``Did you mean `email`?``, else which names there are (the first
 * 20), else that there are none.
 *
 * @param plural what the names are, for example `messengers`
 */
export function suggestionSentence(name: string, known: Iterable<string>, plural: string): string {
  const names = [...known];
  const best = suggest(name, names);
  if (best !== undefined) return `Did you mean \`${best}\`?`;
  if (names.length === 0) return `No ${plural} are known.`;
  const shown = names.slice(0, 20).map((known) => `\`${known}\``);
  return `Known ${plural}: ${shown.join(', ')}${names.length > 20 ? ` and ${names.length - 20} more` : ''}.`;
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, '');
}
