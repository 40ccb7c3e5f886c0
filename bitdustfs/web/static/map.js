// Which suppliers have which blocks: a line for all blocks that the same suppliers have.

import { attribute, by, keyed, make, shown, text } from "/dom.js";
import { many, size } from "/words.js";

const called = (line, names) => names[line.node] || `supplier ${line.position}`;

export function blockMap(map, mount) {
  const { suppliers } = mount.status, { names } = mount;
  const blocks = map.lines.reduce((sum, line) => sum + line.blocks, map.more);
  shown(by("mapped"), blocks > 0);
  text(by("map-said"), `${many(blocks, "block", "blocks")}, as far as this machine knows`);
  text(by("map-more"), map.more ? `${many(map.more, "more block bears", "more blocks bear")} more` : "");
  keyed(by("map-head"), [suppliers.length], String, () => {
    const heads = suppliers.map(() => make("th", { scope: "col" }));
    const node = make("tr", {}, make("th", { scope: "col" }, "Blocks"), ...heads, make("th", { scope: "col", class: "last" }, "May be lost"));
    return { node, update: () => {} };
  });
  const heads = by("map-head").querySelectorAll("th:not(:first-child):not(.last)");
  suppliers.forEach((line, index) => {
    text(heads[index], String(line.position));
    attribute(heads[index], "title", called(line, names));
    attribute(heads[index], "aria-label", called(line, names));
    attribute(heads[index], "class", line.state === "online" ? "" : "off");
  });
  const things = map.lines.map((line) => ({ line, suppliers, policy: mount.policy }));
  keyed(by("map-body"), things, ({ line }) => `${mount.id} ${line.k} ${line.has} of ${suppliers.length}`, (first) => {
    const count = make("p", { class: "name" }), bytes = make("p", { class: "small" });
    const cells = first.suppliers.map((line) => {
      const has = first.line.has.includes(line.position);
      return make("td", {}, make("span", { class: has ? "cell has" : "cell" }), make("span", { class: "unseen" }, has ? "has them" : "lacks them"));
    });
    const spare = make("td", { class: "last" });
    const node = make("tr", {}, make("th", { scope: "row" }, count, bytes), ...cells, spare);
    // of what it is told alone: this row stays while suppliers come and go
    return { node, update: ({ line, suppliers, policy }) => {
      text(count, many(line.blocks, "block", "blocks"));
      const names = policy && line.k < policy.k ? " of names and folders" : "";
      text(bytes, `${size(line.bytes)}${names}${line.local ? `; ${line.local === line.blocks ? "all" : line.local.toLocaleString("en")} here, too` : ""}`);
      cells.forEach((cell, index) => attribute(cell, "class", suppliers[index].state === "online" ? "" : "off"));
      // as in the verdict: of those that answer, without who is lost with this machine
      const there = suppliers.filter((one) => line.has.includes(one.position) && one.state === "online" && !one.own);
      const left = there.length - line.k, here = line.local === line.blocks;
      text(spare, left >= 0 ? `${left} of ${there.length}` : here ? "only here" : "too few answer");
      attribute(node, "class", left < 1 ? "thin" : "");
    } };
  });
}
