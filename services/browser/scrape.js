// A document as Markdown, its links and what it says of itself. Runs in the page, apart from the page's own script, so
// that a hostile document costs its own process and nothing else. Only what is visible counts: text that a reader
// would not see is left out.
(wanted) => {
  const DROPPED = new Set(['SCRIPT', 'STYLE', 'NOSCRIPT', 'TEMPLATE', 'SVG', 'CANVAS', 'IFRAME', 'OBJECT', 'EMBED',
    'HEAD', 'INPUT', 'SELECT', 'TEXTAREA', 'BUTTON', 'DIALOG']);
  const AROUND = 'nav, header, footer, aside, [role=navigation], [role=banner], [role=contentinfo], [role=search], ' +
    '[role=complementary], [aria-hidden=true]';
  const BLOCKS = new Set(['P', 'DIV', 'SECTION', 'ARTICLE', 'MAIN', 'FIGURE', 'FIGCAPTION', 'ADDRESS', 'DL', 'DT', 'DD',
    'FIELDSET', 'FORM', 'DETAILS', 'SUMMARY', 'HEADER', 'FOOTER', 'NAV', 'ASIDE', 'BODY', 'CAPTION']);
  let left = wanted.chars;
  const links = new Map();

  const visible = (element) => {
    const style = getComputedStyle(element);
    return style.display !== 'none' && style.visibility !== 'hidden' && style.opacity !== '0' && !element.hidden;
  };
  const absolute = (url) => {
    try {
      const made = new URL(url, document.baseURI);
      return ['http:', 'https:', 'mailto:'].includes(made.protocol) ? made.href : '';
    } catch { return ''; }
  };
  const flat = (text) => text.replace(/\s+/g, ' ');
  const escaped = (text) => flat(text).replace(/([\\`*_[\]])/g, '\\$1');
  const inside = (node, state) => {
    let made = '';
    for (const child of node.shadowRoot?.childNodes ?? node.childNodes) {
      if (left <= 0) break;
      made += written(child, state);
    }
    return made;
  };
  const block = (text) => (text.trim() ? `\n\n${text.trim()}\n\n` : '');

  const table = (element, state) => {
    const rows = [...element.rows].filter(visible).map((row) =>
      [...row.cells].map((cell) => flat(inside(cell, state)).trim().replace(/\|/g, '\\|')));
    const width = Math.max(0, ...rows.map((row) => row.length));
    if (!width) return '';
    if (width === 1) return block(rows.map((row) => row[0] ?? '').join('\n\n'));
    const line = (row) => `| ${Array.from({length: width}, (_, at) => row[at] ?? '').join(' | ')} |`;
    return block([line(rows[0]), `|${' --- |'.repeat(width)}`, ...rows.slice(1).map(line)].join('\n'));
  };
  const list = (element, state) => {
    let number = element.start ?? 1;
    const items = [...element.children].filter((item) => !DROPPED.has(item.tagName) && visible(item)).map((item) => {
      const mark = element.tagName === 'OL' ? `${number++}. ` : '- ';
      return mark + inside(item, state).trim().replace(/\n{2,}/g, '\n').replace(/\n/g, `\n${' '.repeat(mark.length)}`);
    });
    return block(items.join('\n'));
  };
  const anchor = (element, state) => {
    const text = flat(inside(element, state)).trim();
    const url = absolute(element.getAttribute('href') ?? '');
    if (!url) return text;
    if (links.size < wanted.links && !links.has(url)) links.set(url, flat(element.textContent).trim().slice(0, 200));
    return text ? (wanted.inline_links ? `[${text}](${url})` : text) : '';
  };

  function written(node, state) {
    if (node.nodeType === Node.TEXT_NODE) {
      const text = state.pre ? node.data : escaped(node.data);
      left -= text.length;
      return text;
    }
    if (node.nodeType !== Node.ELEMENT_NODE) return '';
    const element = node, tag = element.tagName.toUpperCase();
    if (DROPPED.has(tag) || !visible(element)) return '';
    if (wanted.main_only && state.main && element.matches(AROUND)) return '';
    if (tag === 'PRE') return `\n\n\`\`\`\n${inside(element, {...state, pre: true}).replace(/\n$/, '')}\n\`\`\`\n\n`;
    if (/^H[1-6]$/.test(tag)) return block(`${'#'.repeat(Number(tag[1]))} ${flat(inside(element, state)).trim()}`);
    if (tag === 'BR') return '\n';
    if (tag === 'HR') return '\n\n---\n\n';
    if (tag === 'UL' || tag === 'OL' || tag === 'MENU') return list(element, state);
    if (tag === 'TABLE') return table(element, state);
    if (tag === 'A') return anchor(element, state);
    if (tag === 'IMG') {
      const url = absolute(element.getAttribute('src') ?? ''), text = flat(element.alt ?? '').trim();
      return text && url && wanted.inline_links ? `![${text}](${url})` : text;
    }
    if (tag === 'BLOCKQUOTE') return block(inside(element, state).trim().replace(/^/gm, '> '));
    const text = inside(element, state);
    if (tag === 'CODE' && !state.pre) return text.trim() ? `\`${text.trim().replace(/\\([\\`*_[\]])/g, '$1')}\`` : '';
    if ((tag === 'STRONG' || tag === 'B') && text.trim()) return `**${text.trim()}**`;
    if ((tag === 'EM' || tag === 'I') && text.trim()) return `*${text.trim()}*`;
    return BLOCKS.has(tag) ? block(text) : text;
  }

  const main = () => {
    const marked = [...document.querySelectorAll('main, [role=main], article')].filter(visible);
    const best = marked.sort((one, other) => other.textContent.length - one.textContent.length)[0];
    const body = document.body;
    return best && best.textContent.trim().length > 0.2 * body.textContent.trim().length ? best : body;
  };
  const meta = {};
  for (const one of document.querySelectorAll('meta[name], meta[property]')) {
    const name = (one.getAttribute('name') ?? one.getAttribute('property')).toLowerCase();
    if (/^(description|author|keywords|robots|og:|article:|twitter:title|twitter:description)/.test(name) &&
        Object.keys(meta).length < 30) meta[name.slice(0, 100)] = (one.content ?? '').slice(0, 500);
  }
  const canonical = document.querySelector('link[rel=canonical]');
  const from = wanted.selector ? document.querySelector(wanted.selector) : wanted.main_only ? main() : document.body;
  if (!from) return {markdown: null};
  const markdown = written(from, {pre: false, main: wanted.main_only}).replace(/[ \t]+\n/g, '\n')
    .replace(/\n[ \t]+(?=\n)/g, '\n').replace(/\n{3,}/g, '\n\n').trim();
  return {
    markdown, cut: left <= 0, title: document.title.slice(0, 300), lang: document.documentElement.lang.slice(0, 35),
    canonical: canonical ? absolute(canonical.getAttribute('href') ?? '') : '', meta,
    links: [...links].map(([url, text]) => ({url: url.slice(0, 2000), text})),
  };
}
