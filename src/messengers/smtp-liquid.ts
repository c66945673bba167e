/**
 * Liquid templates for mail: a source becomes a function from values to text. Invariant: a template sees the values it is
 * given and nothing else, neither files nor the process, and cannot run for ever.
 */

import { Liquid, type Template, TokenKind } from 'liquidjs';

/** Throws the engine's own error when the rendering fails. */
export type Rendering = (values: Readonly<Record<string, unknown>>) => string;

export interface TemplateEngine {
  /** Throws when the source is no valid template; the first line of the message says what and where. */
  parse(source: string): Rendering;
}

/** Characters of one template. */
const PARSE_LIMIT = 1_000_000;
/** Time of one rendering, in ms: far more than any mail needs, it only ends loops. */
const RENDER_LIMIT_MS = 1_000;
/** Things (characters, elements of ranges) that the filters and loops of one rendering may make. */
const MEMORY_LIMIT = 10_000_000;
/** Tags that read other templates; there are none to read. */
const FILE_TAGS = ['include', 'render', 'layout', 'block'];
/** `{{ first_name }}`: what most templates consist of. The words are Liquid's own values. */
const BARE_NAME = /^\{\{-?\s*(?!(?:true|false|nil|null|empty|blank)\b)([A-Za-z_]\w*)\s*-?\}\}$/;

/** `html: true` escapes every value, unless `| raw` is its last filter. */
export function createTemplateEngine({ html }: { html: boolean }): TemplateEngine {
  const liquid = new Liquid({
    fs: NO_FILES,
    relativeReference: false,
    strictFilters: true,
    ownPropertyOnly: true,
    parseLimit: PARSE_LIMIT,
    renderLimit: RENDER_LIMIT_MS,
    memoryLimit: MEMORY_LIMIT,
    ...(html ? { outputEscape: 'escape' as const } : {}),
  });
  for (const tag of FILE_TAGS) delete liquid.tags[tag];
  const shown = html ? escapeHtml : (text: string) => text;

  const parse = (source: string): Rendering => {
    const elements = liquid.parse(source);
    if (elements.some(({ token }) => token.kind !== TokenKind.HTML && token.kind !== TokenKind.Output)) {
      return twice((values) => String(liquid.renderSync(elements, values)));
    }
    // Without tags no element depends on another, and bare names need no engine: it takes twenty times as long.
    const parts = elements.map((element) => partOf(liquid, element, shown));
    return (values) => {
      let text = '';
      for (const part of parts) text += typeof part === 'string' ? part : part(values);
      return text;
    };
  };
  return { parse };
}

function partOf(liquid: Liquid, element: Template, shown: (text: string) => string): string | Rendering {
  if (element.token.kind === TokenKind.HTML) return String(liquid.renderSync([element], {}));
  const byEngine = twice((values) => String(liquid.renderSync([element], values)));
  const name = BARE_NAME.exec(element.token.getText())?.[1];
  if (name === undefined) return byEngine;
  return (values) => {
    const value = Object.hasOwn(values, name) ? values[name] : undefined;
    if (typeof value === 'string') return shown(value);
    return value === undefined ? '' : byEngine(values);
  };
}

/** Again after a failure, because the limit is a matter of time: a pause of the process must cost nobody their mail. */
function twice(render: Rendering): Rendering {
  return (values) => {
    try {
      return render(values);
    } catch {
      return render(values);
    }
  };
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&#34;',
  "'": '&#39;',
};

/** As the engine's own filter. */
function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

const NO_FILES = {
  exists: () => Promise.resolve(false),
  existsSync: () => false,
  contains: () => Promise.resolve(false),
  containsSync: () => false,
  readFile: () => Promise.reject(new Error('templates cannot read files')),
  readFileSync: (): string => {
    throw new Error('templates cannot read files');
  },
  resolve: (_directory: string, file: string) => file,
};
