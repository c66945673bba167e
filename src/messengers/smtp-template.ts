/**
 * The content of a mail campaign: checked when the campaign is made, compiled once a run, rendered for each recipient.
 * Invariant: what passes the check can be sent to everybody whose values the templates can cope with.
 */

import { kindOf } from '../core/plain-data.ts';
import { CampaignSchedulerError, type Problem } from '../errors.ts';
import { expectation } from '../input-checks.ts';
import { suggestionSentence } from '../suggestion.ts';
import type { Content, Message } from './messenger.ts';
import { createTemplateEngine, type Rendering, type TemplateEngine } from './smtp-liquid.ts';

/** What one recipient gets; nothing here is encoded or folded yet. */
export interface RenderedMail {
  readonly subject: string;
  readonly html: string | undefined;
  readonly text: string | undefined;
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>;
}

/** Throws what the template engine throws when a template fails for this recipient. */
export type MailTemplate = (message: Message) => RenderedMail;

export interface TemplateCompiler {
  /** Throws `invalid_content` that names every wrong field. */
  compile(content: Content): MailTemplate;
}

const FIELDS = ['subject', 'html', 'text', 'headers'];
const HEADER_NAME = /^[A-Za-z][A-Za-z0-9-]{0,59}$/;
/** Headers that the messenger writes itself, or that only servers write. */
const OWN_HEADERS =
  /^(from|sender|to|cc|bcc|subject|date|message-id|mime-version|return-path|received|content-.*|dkim-signature)$/i;

export function createTemplateCompiler(): TemplateCompiler {
  const plain = createTemplateEngine({ html: false });
  const escaping = createTemplateEngine({ html: true });

  const compile = (content: Content): MailTemplate => {
    const problems: Problem[] = [];
    const parse = (engine: TemplateEngine, path: string, source: unknown): Rendering | undefined => {
      if (typeof source !== 'string' || source.trim() === '') {
        problems.push({ path, message: expectation(path, 'a template that is not blank', source) });
        return undefined;
      }
      try {
        return engine.parse(source);
      } catch (error) {
        problems.push({ path, message: `\`${path}\` is no valid template: ${firstLine(error)}` });
        return undefined;
      }
    };

    for (const key of Object.keys(content)) {
      if (FIELDS.includes(key)) continue;
      const message = `Unknown field \`content.${key}\`. ${suggestionSentence(key, FIELDS, 'fields')}`;
      problems.push({ path: `content.${key}`, message });
    }
    const subject = parse(plain, 'content.subject', content.subject);
    const html = isGiven(content.html) ? parse(escaping, 'content.html', content.html) : undefined;
    const text = isGiven(content.text) ? parse(plain, 'content.text', content.text) : undefined;
    if (!isGiven(content.html) && !isGiven(content.text)) {
      const message = 'Expected at least one of `content.html` and `content.text`';
      problems.push({ path: 'content.text', message });
    }
    const headers: Array<readonly [name: string, value: Rendering]> = [];
    for (const [name, source] of headersOf(content.headers, problems)) {
      const value = parse(plain, `content.headers.${name}`, source);
      if (value !== undefined) headers.push([name, value]);
    }
    if (problems.length > 0 || subject === undefined) throw invalid(problems);

    return ({ recipient, campaign, run }) => {
      // Recipients' values at the top, so that `{{ first_name }}` is enough; the three named objects win over them.
      const values = { ...recipient.vars, recipient, campaign, run };
      return {
        subject: subject(values),
        html: html?.(values),
        text: text?.(values),
        headers: headers.map(([name, value]) => [name, value(values)] as const),
      };
    };
  };
  return { compile };
}

/** The headers whose names are right, by name. */
function headersOf(given: unknown, problems: Problem[]): Array<[name: string, source: unknown]> {
  if (!isGiven(given)) return [];
  if (typeof given !== 'object' || Array.isArray(given)) {
    const message = `Expected \`content.headers\` to be an object of names and templates, got ${kindOf(given)}`;
    problems.push({ path: 'content.headers', message });
    return [];
  }
  return Object.entries(given).filter(([name]) => {
    const path = `content.headers.${name.slice(0, 60)}`;
    if (!HEADER_NAME.test(name)) {
      problems.push({ path, message: `\`${path}\` is no name of a mail header` });
    } else if (OWN_HEADERS.test(name)) {
      problems.push({ path, message: `\`${path}\` cannot be set: the messenger writes this header itself` });
    } else {
      return true;
    }
    return false;
  });
}

function isGiven(value: unknown): value is NonNullable<unknown> {
  return value !== undefined && value !== null;
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? '';
}

function invalid(problems: readonly Problem[]): CampaignSchedulerError {
  const lines = problems.map((problem) => `  - ${problem.message}`);
  return new CampaignSchedulerError('invalid_content', `This cannot be sent as mail:\n${lines.join('\n')}`, {
    details: { problems },
  });
}
