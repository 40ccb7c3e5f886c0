// Asks for all that there is every two seconds while somebody looks, and shows what changed.

import { attempt, confirm, post } from "/actions.js";
import { attribute, by, keyed, lines, make, shown, text } from "/dom.js";
import { ring, spark } from "/drawings.js";
import { blockMap } from "/map.js";
import { errandRow, shelf, supplierRow } from "/parts.js";
import { clock, many, short, size, within } from "/words.js";

const EVERY = 2000, MAP_EVERY = 10000, PATIENCE = 30000, EVENTS = 30, SNAPSHOTS = 5;
let overview = null, timer = 0, asking = false, spokenGrade = null, kept = { place: "", ended: "" };

if (location.search) history.replaceState(null, "", location.pathname + location.hash);

const chosen = () => {
  if (!overview || !overview.mounts.length) return null;
  return overview.mounts.find((mount) => `#${mount.id}` === location.hash) || overview.mounts[0];
};

async function look() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    const answer = await fetch("/api/overview", { credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE) });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    overview = said;
    shown(by("lost"), false);
    text(by("live"), `live, ${clock(overview.at)}`);
    show();
  } catch (error) {
    const reached = error instanceof TypeError || error.name === "TimeoutError";
    text(by("lost"), reached ? "The dashboard does not answer: it was ended, or hangs. What is shown is old. Run bitdust dashboard again." : error.message);
    shown(by("lost"), true);
    text(by("live"), "not live");
  } finally {
    asking = false;
    if (!document.hidden) timer = setTimeout(look, EVERY);
  }
}

function show() {
  const mount = chosen();
  keyed(by("mounts"), overview.mounts.length > 1 ? overview.mounts : [], (one) => one.id, (one) => {
    const node = make("a", { href: `#${one.id}` });
    return { node, update: (now) => {
      text(node, now.mountpoint.split("/").pop() || now.mountpoint);
      attribute(node, "title", now.mountpoint);
      if (now === chosen()) node.setAttribute("aria-current", "page"); else node.removeAttribute("aria-current");
    } };
  });
  showVerdict(mount);
  shown(by("vault"), mount !== null && mount.status !== null);
  if (mount && mount.status) showVault(mount, mount.status);
  shown(by("others"), overview.suppliers.length > 0);
  keyed(by("shelves"), overview.suppliers, (one) => one.id, (one) => shelf(one, look));
  shown(by("lately"), overview.events.length > 0);
  keyed(by("events"), overview.events.slice(0, EVENTS), (line) => `${line.at} ${line.said}`, (line) => {
    const time = make("time", { datetime: new Date(line.at * 1000).toISOString() }, clock(line.at));
    return { node: make("li", {}, time, make("span", {}, line.said)), update: () => {} };
  });
  text(by("program"), `bitdustfs ${overview.program}. This page asks this machine only.`);
}

function showVerdict(mount) {
  const grade = mount ? mount.grade : "none";
  const said = mount ? mount.verdict : "No vault is mounted here";
  text(by("verdict"), said);
  attribute(by("verdict"), "class", grade);
  text(by("place"), mount ? mount.mountpoint : "");
  lines(by("safety"), mount ? mount.safety : ["To mount one: mount.bitdust ~/vault. To make one: bitdust setup."]);
  document.title = `${grade === "ok" ? "" : grade === "none" ? "" : "! "}${said.split(":")[0]} · bitdust`;
  const spoken = `${mount ? mount.id : ""} ${grade} ${mount && mount.status ? mount.status.judged : ""}`;
  if (spoken !== spokenGrade) { spokenGrade = spoken; text(by("spoken"), said); }
  const known = mount && mount.status;
  shown(by("ring"), Boolean(known));
  if (known) ring(by("ring"), mount.status.suppliers);
}

function showVault(mount, status) {
  text(by("here"), status.only_here || status.unpublished ? size(status.only_here) : "nothing");
  text(by("when"), whenPublished(status));
  spark(by("spark"), mount.history, overview.at);
  text(by("content"), size(status.live));
  text(by("files"), `${many(status.inodes, "file or folder", "files and folders")}`);
  const n = status.suppliers.length;
  text(by("margin"), status.may_lose < 0 ? "not readable" : `${status.may_lose} of ${n}`);
  text(by("thin"), status.thin_blocks ? `${many(status.thin_blocks, "block bears", "blocks bear")} no loss` : "suppliers, and this machine besides");
  shown(by("warned"), mount.warnings.length > 0);
  lines(by("warnings"), mount.warnings);
  text(by("code"), mount.policy ? `any ${mount.policy.k} of ${mount.policy.n} have it all` : "");
  keyed(by("suppliers"), status.suppliers, (line) => line.position, () => supplierRow(chosen));
  lines(by("bench"), status.bench.map((one) => {
    const does = one.stands_in_for !== null ? `has a copy of position ${one.stands_in_for}` : one.ready ? "stands by" : "is not ready yet";
    return `Reserve ${mount.names[one.node] || short(one.node)} is ${one.state} and ${does}.`;
  }));
  const [done, total] = status.rebuilding;
  const rebuilding = total ? [{ id: "now", verb: "rebuild", state: "running", done, total, what: "by itself", unit: "", said: [] }] : [];
  const errands = overview.errands.filter((line) => line.mount === mount.id);
  const own = errands.some((line) => line.verb === "rebuild" && line.state === "running");
  keyed(by("errands"), [...(own ? [] : rebuilding), ...errands].slice(0, 6), (line) => line.id, errandRow);
  const running = new Set(errands.filter((line) => line.state === "running").map((line) => line.verb));
  for (const verb of ["snapshot", "verify", "rebuild", "limit"]) {
    const off = running.has(verb) || (status.read_only && verb !== "verify");
    if (by(verb).disabled !== off) by(verb).disabled = off;
  }
  const ended = errands.filter((line) => line.verb === "snapshot" && line.ended).map((line) => line.id).join();
  if (kept.place !== mount.id || kept.ended !== ended) { kept = { place: mount.id, ended }; showSnapshots(mount.id); }
}

function whenPublished(status) {
  if (!status.only_here && !status.unpublished) return "everything is published";
  if (status.rate > 0 && status.to_send) {
    const left = status.seconds_left === null ? "" : `, published ${within(status.seconds_left)}`;
    return `${size(status.to_send)} to send at ${size(status.rate)}/s${left}`;
  }
  return status.to_send ? `${size(status.to_send)} to send; nothing is sent just now` : "it is due to be published";
}

async function showSnapshots(place) {
  try {
    const answer = await fetch(`/api/mounts/${place}/snapshots`, { credentials: "same-origin" });
    if (!answer.ok || kept.place !== place) return;
    const found = (await answer.json()).snapshots;
    const last = found.slice(-SNAPSHOTS).reverse();
    const head = found.length ? [`${many(found.length, "snapshot is", "snapshots are")} kept; the newest:`] : [];
    lines(by("snapshots"), [...head, ...last.map((one) => `${one.name}, ${size(one.live)}${one.scheduled ? ", by schedule" : ""}`)]);
  } catch { /* the next look says that nobody answers */ }
}

async function showMap() {
  const mount = chosen();
  if (!mount || !mount.status || document.hidden) return;
  try {
    const answer = await fetch(`/api/mounts/${mount.id}/map`, { credentials: "same-origin" });
    if (chosen().id !== mount.id) return;
    // a mount of an older version does not know the question
    shown(by("mapped"), answer.ok);
    if (answer.ok) blockMap(await answer.json(), mount);
  } catch { /* the next look says that nobody answers */ }
}

function begin(verb, body) {
  const mount = chosen();
  return attempt(by(verb), async () => { await post(`/api/mounts/${mount.id}/${verb}`, body); await look(); });
}

by("rebuild").addEventListener("click", () => begin("rebuild", {}));
by("verify").addEventListener("click", async () => {
  const sure = await confirm("Verify the vault?", "Every fragment is fetched from its supplier and checked. That may take long, and moves as many bytes as the vault has.", "Verify");
  if (sure !== null) begin("verify", {});
});
by("snapshot").addEventListener("click", async () => {
  const name = await confirm("Keep a snapshot", "The vault as it is now is kept under a name, and seen in .snapshots. Without a name it is called by the time.", "Keep it", [["Name", ""]]);
  if (name !== null) begin("snapshot", { name: name[0] });
});
by("limit").addEventListener("click", async () => {
  const { policy } = chosen();
  const now = policy && policy.bandwidth ? size(policy.bandwidth) : "no bound";
  const typed = await confirm("Limit rebuilding", "What rebuilding may move in a second, on all machines: for example 10M, or 0 for no bound. Uploads and reads of this mount have a bound of their own: -o bandwidth=, or config.toml.", "Set it", [["Bytes a second", now]]);
  if (typed !== null && typed[0]) begin("limit", { bandwidth: typed[0] });
});
addEventListener("hashchange", () => { if (overview) { shown(by("mapped"), false); show(); showMap(); } });
document.addEventListener("visibilitychange", () => { if (!document.hidden) look().then(showMap); });
look().then(showMap);
setInterval(showMap, MAP_EVERY);
