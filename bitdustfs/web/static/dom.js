// Elements made and kept. Text goes in as text only: nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

// Said besides, because a table that is laid out as a grid on a narrow screen is none to some readers.
const ROLES = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" };

export const by = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (tag in ROLES) element.setAttribute("role", ROLES[tag]);
  if (tag === "th") element.setAttribute("role", attributes.scope === "row" ? "rowheader" : "columnheader");
  return filled(element, attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Only what is different is touched: focus, selection and screen readers stay where they are.
export function text(element, said) {
  if (element.textContent !== said) element.textContent = said;
}

export function attribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function shown(element, is) {
  if (element.hidden === is) element.hidden = !is;
}

// The children of `parent`, one a thing: made once for each key, told of each change.
export function keyed(parent, things, keyOf, makeOne) {
  parent.parts ??= new Map();
  const there = new Set();
  let before = null;
  for (const thing of things) {
    const key = String(keyOf(thing));
    there.add(key);
    if (!parent.parts.has(key)) parent.parts.set(key, makeOne(thing));
    const part = parent.parts.get(key);
    part.update(thing);
    const next = before === null ? parent.firstChild : before.nextSibling;
    if (next !== part.node) parent.insertBefore(part.node, next);
    before = part.node;
  }
  for (const [key, part] of parent.parts) {
    if (!there.has(key)) { part.node.remove(); parent.parts.delete(key); }
  }
}

export function lines(parent, sentences) {
  keyed(parent, [...sentences.entries()], ([number]) => number, () => {
    const node = make("li");
    return { node, update: ([, said]) => text(node, said) };
  });
}
