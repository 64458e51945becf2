// What a schema asks for, out of the document. Runs in the page, apart from the page's own script.
(wanted) => {
  const STRING_CHARS = 10000;
  let left = wanted.values;
  const all = (from, selector) => {
    if (/^(\/|\.\/|\(|xpath=)/.test(selector)) {
      const path = selector.replace(/^xpath=/, '');
      const found = document.evaluate(path, from, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null);
      return Array.from({length: Math.min(found.snapshotLength, left)}, (_, at) => found.snapshotItem(at));
    }
    return [...from.querySelectorAll(selector)];
  };
  const text = (node, attribute) => {
    if (attribute === 'html') return (node.outerHTML ?? node.nodeValue ?? '').slice(0, STRING_CHARS);
    if (attribute) {
      const raw = node.getAttribute?.(attribute) ?? null;
      if (raw === null) return null;
      if (attribute !== 'href' && attribute !== 'src') return raw.slice(0, STRING_CHARS);
      try { return new URL(raw, document.baseURI).href.slice(0, STRING_CHARS); } catch { return raw.slice(0, STRING_CHARS); }
    }
    return (node.value ?? node.innerText ?? node.textContent ?? node.nodeValue ?? '').trim().slice(0, STRING_CHARS);
  };
  const number = (raw) => {
    const found = raw?.replace(/[\s\u00a0,']/g, '').match(/-?\d+(\.\d+)?/);
    return found ? Number(found[0]) : null;
  };
  const one = (from, schema) => {
    left -= 1;
    if (left < 0) return null;
    const type = schema.type ?? (schema.properties ? 'object' : schema.items ? 'array' : 'string');
    if (type === 'array') {
      const items = schema.items ?? {type: 'string'};
      const found = all(from, schema.selector ?? items.selector ?? '*');
      const inner = schema.selector ? items : {...items, selector: undefined};
      const made = [];
      for (const node of found) {
        if (left <= 0) break;
        made.push(one(node, inner));
      }
      return made;
    }
    const node = schema.selector ? all(from, schema.selector)[0] : from;
    if (type === 'boolean') return Boolean(node);
    if (!node) return null;
    if (type === 'object') {
      return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, inner]) => [name, one(node, inner)]));
    }
    const raw = text(node, schema.attribute);
    if (type === 'number') return number(raw);
    if (type === 'integer') { const made = number(raw); return made === null ? null : Math.trunc(made); }
    return raw;
  };
  return {data: one(document, wanted.schema), cut: left <= 0};
}
