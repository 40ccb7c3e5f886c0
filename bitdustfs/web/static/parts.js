// Rows of the page: each is made once and then told what changed.

import { attempt, confirm, post } from "/actions.js";
import { attribute, keyed, lines, make, shown, text } from "/dom.js";
import { bar, strip } from "/drawings.js";
import { ago, clock, day, many, short, size, within } from "/words.js";

export const called = (line, names) => names[line.node] || `supplier ${line.position}`;

function coming(line) {
  if (line.owed && line.rate > 0 && line.state === "online") return `${size(line.owed)}, ${size(line.rate)}/s, ${within(line.owed / line.rate)}`;
  if (line.owed) return size(line.owed);
  if (line.lacks) return many(line.lacks, "fragment is missing", "fragments are missing");
  return "has everything";
}

// One supplier of a vault. `now()` is the mount as it was seen last.
export function supplierRow(now) {
  const name = make("p", { class: "name" }), hex = make("p", { class: "hex" });
  const state = make("span"), heard = make("p", { class: "small" });
  const answered = strip();
  const kept = make("span", { class: "small" }), space = bar([["has", 0], ["owed", 0]], 0, "");
  const left = make("p"), more = make("p", { class: "small" });
  const button = make("button", { type: "button", class: "quiet" }, "Replace");
  const node = make("tr", { class: "keeper" },
    make("td", {}, name, hex), make("td", {}, make("span", { class: "state" }, make("span", { class: "dot" }), state), heard, answered.node),
    make("td", { class: "wide" }, kept, space.node), make("td", { "data-label": "" }, left, more), make("td", {}, button));
  const badge = node.querySelector(".state");
  let line = null;
  button.addEventListener("click", async () => {
    const meant = line, mount = now();
    const who = called(meant, mount.names);
    const sure = await confirm(`Replace ${who}?`,
      `Another supplier is found in the network, gets all that position ${meant.position} has, and takes its place. `
      + `${who} (${short(meant.node)}) is out of the vault then, and gives up what it keeps of it.`, "Replace it");
    if (sure === null) return;
    await attempt(button, () => post(`/api/mounts/${mount.id}/replace`, { position: meant.position, node: meant.node }));
  });
  const update = (seen) => {
    line = seen;
    const names = now().names, who = called(line, names);
    text(name, who);
    text(hex, names[line.node] ? `${line.position} · ${short(line.node)}` : short(line.node));
    text(state, line.gone ? "to be replaced" : line.state);
    attribute(badge, "class", `state ${line.gone ? "gone" : line.state}`);
    const ever = line.uptime === null ? "" : `, up ${(100 * line.uptime).toFixed(0)} %`;
    text(heard, `${line.heard === null ? "no answer yet" : ago(line.heard)}${ever}`);
    const { history } = now();
    answered.update(history, line.position, history.length ? history[history.length - 1].at : 0, who);
    text(kept, `${size(line.stored)} of ${size(line.space)}`);
    space.update([["has", line.stored], ["owed", line.owed]], line.space,
      `${who} keeps ${size(line.stored)} of ${size(line.space)}, ${size(line.owed)} are to come`);
    text(left, coming(line));
    const facts = [line.gone, line.last_error && line.state !== "online" ? line.last_error : "", line.own ? "on this machine" : "", line.state === "online" ? line.way : ""];
    text(more, facts.filter(Boolean).join("; "));
    attribute(button, "aria-label", `Replace ${who}`);
    shown(button, now().status !== null && !now().status.read_only);
  };
  return { node, update };
}

const VERBS = { rebuild: "Rebuild", verify: "Verify", snapshot: "Snapshot", replace: "Replace a supplier", limit: "Limit rebuilding" };

// Work that runs, or ran.
export function errandRow() {
  const head = make("p"), progress = make("progress"), how = make("p", { class: "small" });
  const said = make("ul", { class: "sentences" });
  const node = make("li", {}, head, progress, how, said);
  const update = (line) => {
    text(head, VERBS[line.verb] || line.verb);
    shown(progress, line.state === "running");
    attribute(progress, "aria-label", `${line.verb}: how far it is`);
    if (line.total) { progress.max = line.total; progress.value = line.done; } else progress.removeAttribute("value");
    const count = line.unit === "B" ? size : (number) => number.toLocaleString("en");
    const far = line.total ? `${count(line.done)} of ${count(line.total)}` : "begun";
    text(how, line.state === "running" ? [far, line.what].filter(Boolean).join(" · ")
      : `${line.state}, ${clock(line.ended)}`);
    lines(said, line.said);
  };
  return { node, update };
}

// A supplier that runs here, and whom it keeps something for.
export function shelf(first, again) {
  const title = make("h3"), how = make("p", { class: "small" }), button = make("button", { type: "button" });
  const limits = make("button", { type: "button" }, "Change limits");
  const space = bar([["has", 0], ["soft", 0]], 0, ""), kept = make("p", { class: "small" });
  const facts = make("p", { class: "small" }), warnings = make("ul", { class: "sentences warned" });
  const body = make("tbody");
  const table = make("table", { class: "table" },
    make("thead", {}, make("tr", {}, ...["Vault", "Uses of what was promised", "Until", "Owner"].map((word) => make("th", { scope: "col" }, word)))), body);
  const node = make("div", { class: "shelf" }, make("div", { class: "head" }, make("div", {}, title, how), make("div", { class: "actions" }, limits, button)), space.node, kept, facts, warnings, table);
  let view = first;
  button.addEventListener("click", () => attempt(button, async () => {
    await post(`/api/suppliers/${view.id}/${view.told.state === "paused" ? "resume" : "pause"}`);
    await again();
  }));
  limits.addEventListener("click", async () => {
    const { told } = view;
    const typed = await confirm("Change limits", `How much ${view.folder} donates, for example 100G, and what all its traffic may take of the line, for example up:1M/down:8M, or 0 for no bound. What is left empty stays.`,
      "Set them", [["Donated", size(told.space)], ["Bytes a second", told.bandwidth === "0" ? "no bound" : told.bandwidth]]);
    if (typed === null) return;
    const [space, bandwidth] = typed;
    await attempt(limits, async () => { await post(`/api/suppliers/${view.id}/set`, { space, bandwidth }); await again(); });
  });
  const update = (seen) => {
    view = seen;
    const told = view.told;
    text(title, view.folder);
    text(how, told ? `${told.state} at ${told.address}` : view.said);
    for (const part of [space.node, kept, facts]) part.toggleAttribute("hidden", told === null);
    shown(table, view.customers.length > 0);
    for (const one of [button, limits]) shown(one, told !== null && told.state !== "leaving");
    keyed(warnings, told ? told.warnings : [], (said) => said, () => {
      const item = make("li");
      return { node: item, update: (said) => text(item, said) };
    });
    if (told === null) return;
    text(button, told.state === "paused" ? "Make contracts again" : "Pause new contracts");
    const words = `${size(told.used)} used, ${size(told.promised)} promised, ${size(told.space)} donated`;
    space.update([["has", told.used], ["soft", Math.max(0, told.promised - told.used)]], told.space, words);
    text(kept, `${words}; the disk has ${size(told.free)} free`);
    const hours = told.uptime / 3600;
    text(facts, `${size(told.received)} came and ${size(told.served)} were read in ${hours < 48 ? `${hours.toFixed(1)} h` : `${(hours / 24).toFixed(0)} days`}`
      + `${told.bandwidth === "0" ? "" : `, within ${told.bandwidth}`}; ${told.reached}`);
    keyed(body, view.customers, (line) => line.vault, () => customerRow(() => view.names));
  };
  return { node, update };
}

function customerRow(names) {
  const name = make("p", { class: "name" }), hex = make("p", { class: "hex" });
  const used = make("span", { class: "small" }), space = bar([["has", 0]], 0, "");
  const until = make("td", { class: "small", "data-label": "until" }), owner = make("p"), depends = make("p", { class: "small" });
  const node = make("tr", {}, make("td", {}, name, hex), make("td", { class: "wide" }, used, space.node), until, make("td", {}, owner, depends));
  const update = (line) => {
    const known = names()[line.vault];
    text(name, known || "a vault");
    text(hex, short(line.vault));
    text(used, `${size(line.used)} of ${size(line.promised)}, ${many(line.fragments, "fragment", "fragments")}`);
    space.update([["has", line.used]], line.promised, `${size(line.used)} of ${size(line.promised)}`);
    text(until, day(line.until));
    text(owner, line.owner_here ? "mounted now" : "away");
    text(depends, line.depends ? "needs what is here" : "");
  };
  return { node, update };
}
