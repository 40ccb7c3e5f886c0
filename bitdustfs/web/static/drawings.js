// Small drawings made of figures. Each says in words what it shows, for who does not see it.

import { attribute, draw, make } from "/dom.js";
import { size } from "/words.js";

const MIDDLE = 75, RADIUS = 64, GAP = 0.045;

function arc(from, to) {
  const at = (turn) => {
    const angle = 2 * Math.PI * turn - Math.PI / 2;
    return `${(MIDDLE + RADIUS * Math.cos(angle)).toFixed(2)} ${(MIDDLE + RADIUS * Math.sin(angle)).toFixed(2)}`;
  };
  const end = Math.min(to, from + 0.9999);
  return `M${at(from)}A${RADIUS} ${RADIUS} 0 ${end - from > 0.5 ? 1 : 0} 1 ${at(end)}`;
}

// One arc a supplier: full where it has everything, partly where something is still to come.
export function ring(parent, suppliers) {
  const n = suppliers.length, gap = n > 1 ? GAP / Math.max(1, n / 6) : 0;
  const online = suppliers.filter((line) => line.state === "online").length;
  const said = `${online} of ${n} suppliers answer`;
  const key = JSON.stringify(suppliers.map((line) => [line.state, line.stored, line.owed]));
  if (parent.dataset.key === key) return;
  parent.dataset.key = key;
  const arcs = suppliers.flatMap((line, index) => {
    const from = index / n + gap / 2, to = (index + 1) / n - gap / 2;
    if (line.gone) return [draw("path", { d: arc(from, to), class: "arc gone" })];
    if (line.state !== "online") return [draw("path", { d: arc(from, to), class: "arc away" })];
    const all = line.stored + line.owed;
    const share = line.owed && all ? line.stored / all : 1;
    const base = draw("path", { d: arc(from, to), class: "arc base" });
    return share > 0 ? [base, draw("path", { d: arc(from, from + (to - from) * share), class: "arc has" })] : [base];
  });
  const number = draw("text", { x: MIDDLE, y: MIDDLE + 6 }, `${online}`);
  const under = draw("text", { x: MIDDLE, y: MIDDLE + 23, class: "sub" }, `of ${n} answer`);
  parent.replaceChildren(draw("svg", { viewBox: "0 0 150 150", role: "img", "aria-label": said }, ...arcs, number, under));
}

// Parts of a whole, side by side: [class, amount] each.
export function bar(parts, whole, said) {
  const node = draw("svg", { class: "bar", viewBox: "0 0 100 1", preserveAspectRatio: "none", role: "img" });
  const rects = parts.map(([name]) => node.appendChild(draw("rect", { class: name, y: 0, height: 1 })));
  const update = (now, all, words) => {
    let x = 0;
    now.forEach(([, amount], index) => {
      const most = 100 - x;
      const width = all > 0 ? Math.min(most, (100 * amount) / all) : 0;
      attribute(rects[index], "x", x.toFixed(3));
      attribute(rects[index], "width", (amount > 0 ? Math.min(most, Math.max(width, 0.6)) : 0).toFixed(3));
      x += width;
    });
    attribute(node, "aria-label", words);
  };
  update(parts, whole, said);
  return { node, update };
}

// When one supplier answered in the last minutes: a bar that is full where it did.
export function strip() {
  const MOST = 300, PAUSE = 12;
  const path = draw("path", { class: "has" }), off = draw("path", { class: "owed" });
  const node = draw("svg", { class: "bar", viewBox: "0 0 100 1", preserveAspectRatio: "none", role: "img" }, path, off);
  const update = (history, position, now, said) => {
    const seen = history.filter((moment) => now - moment.at < MOST);
    const span = seen.length ? Math.max(now - seen[0].at, 1) : 1;
    const drawn = { true: "", false: "" };
    let there = 0, looked = 0;
    for (const [index, moment] of seen.entries()) {
      const until = Math.min(seen[index + 1]?.at ?? now, moment.at + PAUSE), is = moment.online.includes(position);
      const at = (time) => (100 - (100 * (now - time)) / span).toFixed(2);
      drawn[is] += `M${at(moment.at)} 0H${at(until)}V1H${at(moment.at)}Z`;
      looked += until - moment.at;
      if (is) there += until - moment.at;
    }
    attribute(path, "d", drawn.true);
    attribute(off, "d", drawn.false);
    const share = looked ? Math.round((100 * there) / looked) : 0;
    attribute(node, "aria-label", `${said}: of the last ${span < 90 ? `${span.toFixed(0)} s` : `${(span / 60).toFixed(0)} min`} it was there for ${share} %`);
  };
  return { node, update };
}

// What was sent in the last minutes. Times in which nobody looked are breaks.
export function spark(parent, history, now) {
  const MOST = 300, LEAST = 30, PAUSE = 12;
  const seen = history.filter((moment) => now - moment.at < MOST);
  const SPAN = Math.max(LEAST, seen.length ? now - seen[0].at : 0);
  const lately = SPAN < 90 ? `${SPAN.toFixed(0)} s` : `${(SPAN / 60).toFixed(0)} min`;
  const most = Math.max(...seen.map((moment) => moment.rate), 0);
  if (most <= 0 || seen.length < 3) { parent.replaceChildren(); return; }
  let path = "", under = "", before = null, begun = 0;
  for (const { at, rate } of seen) {
    const x = 100 - (100 * (now - at)) / SPAN, y = 30 - (28 * rate) / most;
    const joined = before !== null && at - before.at < PAUSE;
    if (!joined) { if (before) under += `L${before.x.toFixed(2)} 30Z`; begun = x; under += `M${begun.toFixed(2)} 30`; }
    path += `${joined ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
    under += `L${x.toFixed(2)} ${y.toFixed(2)}`;
    before = { at, x };
  }
  if (before) under += `L${before.x.toFixed(2)} 30Z`;
  parent.replaceChildren(
    draw("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img",
      "aria-label": `bytes a second in the last ${lately}, at most ${size(most)} a second` },
    draw("path", { class: "under", d: under }), draw("path", { d: path })),
    make("p", { class: "small" }, `last ${lately}, at most ${size(most)}/s`),
  );
}
