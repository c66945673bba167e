import { describe, expect, test } from 'vitest';
import { suggest, suggestionSentence } from '../src/suggestion.ts';

describe('suggest', () => {
  test.each([
    ['pagesize', 'pageSize'],
    ['page_size', 'pageSize'],
    ['emial', 'email'],
    ['e-mail', 'email'],
    ['sm', 'sms'],
    ['smtp', undefined],
    ['x', undefined],
    ['', undefined],
    ['completelyDifferent', undefined],
  ])('%s: %s', (name, expected) => {
    expect(suggest(name, ['pageSize', 'email', 'sms', 'customers'])).toBe(expected);
  });

  test('takes the closest', () => {
    expect(suggest('customer', ['customs', 'customers', 'costumer2'])).toBe('customers');
  });
});

describe('suggestionSentence', () => {
  test('suggests, else lists, else says that there is none', () => {
    expect(suggestionSentence('emial', ['email'], 'messengers')).toBe('Did you mean `email`?');
    expect(suggestionSentence('fax', ['email', 'webhook'], 'messengers')).toBe(
      'Known messengers: `email`, `webhook`.',
    );
    expect(suggestionSentence('fax', [], 'messengers')).toBe('No messengers are known.');
    const many = Array.from({ length: 25 }, (_, index) => `audience-number-${index}`);
    expect(suggestionSentence('fax', many, 'sources')).toMatch(/`audience-number-19` and 5 more\.$/);
  });
});
