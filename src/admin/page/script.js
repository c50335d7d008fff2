// The status page: asks for the state once a second, and shows it in place, so that focus and
// selection stay where they are.
"use strict";

const POLL_MS = 1000;
// More rows than anybody reads: the filter finds the others.
const ROWS_MAX = 200;
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
const standings = {
  healthy: "well", suspect: "warn", draining: "warn", unresolved: "warn", ejected: "bad", down: "bad",
};
const phases = {
  starting: ["waiting for a topology", "warn"], serving: ["ready", "well"], pre_drain: ["draining: unready, still accepting", "warn"],
  draining: ["draining: accepting nothing more", "warn"], over: ["ending", "bad"],
};

let before;
let state;

// === elements ===

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function paint(node, className) {
  if (node.className !== className) node.className = className;
}

// Makes the children of `parent` those of `items`, in their order, keeping who is there already.
function keyed(parent, items, key, make, update) {
  const there = new Map([...parent.children].map((it) => [it.dataset.key, it]));
  const kept = new Set();
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = there.get(name);
    there.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
    kept.add(child);
    update(child, item);
  }
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
}

function row(columns, numbers) {
  const made = element("tr");
  for (let at = 0; at < columns; at++) {
    const cell = element(at === 0 ? "th" : "td", "", numbers.includes(at) ? "number" : "");
    if (at === 0) cell.scope = "row";
    made.append(cell);
  }
  return made;
}

// === figures ===

// A shard's colour: hues that lie as far apart as they can, however many there are.
const colour = (at) => `oklch(0.68 0.15 ${(at * 137.508) % 360})`;
const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`;
const plural = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

function rate(now, then) {
  const seconds = before ? (state.uptime_seconds - before.uptime_seconds) : 0;
  if (then === undefined || seconds <= 0 || now < then) return undefined;
  return (now - then) / seconds;
}

function number(value) {
  if (value === undefined) return "–";
  return value >= 100 || value === 0 ? value.toFixed(0) : value.toPrecision(2);
}

function time(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  return seconds < 1 ? `${(seconds * 1000).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
}

function age(seconds) {
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= size) return plural(Math.floor(seconds / size), unit);
  }
  return plural(Math.floor(seconds), "second");
}

// === what is shown ===

function show() {
  const [phase, look] = phases[state.phase] ?? [state.phase, "warn"];
  say($("phase"), phase);
  paint($("phase"), `badge ${look}`);
  const about = [`generation ${state.generation}`, `up for ${age(state.uptime_seconds)}`, `version ${state.version}`];
  if (state.epoch !== null) about.splice(1, 0, `epoch ${state.epoch}`);
  if (state.zone) about.push(`zone ${state.zone}`);
  say($("about"), about.join(" · "));
  showAttention();
  showRoutes();
  showClusters();
  showReloads();
}

function nodesOf(cluster) {
  return cluster.shards.flatMap((shard, at) => shard.nodes.map((node) => ({ node, shard, at })));
}

function showAttention() {
  const found = [];
  for (const cluster of state.clusters) {
    for (const { node, shard } of nodesOf(cluster)) {
      if (node.standing === "healthy") continue;
      found.push([`${cluster.name}, ${shard.name}: node ${node.id} is ${node.standing}`, standings[node.standing]]);
    }
  }
  if (state.reloads[0]?.outcome === "rejected") {
    found.push(["the last change of the files was refused; the old state serves on", "bad"]);
  }
  if (state.restart_required) found.push(["a changed key waits for a restart", "warn"]);
  if (found.length === 0) found.push(["Nothing: all nodes are healthy.", "well"]);
  const more = found.length - 20;
  if (more > 0) found.splice(20, more, [`and ${more} more`, "warn"]);
  keyed($("attention"), found, (it) => it[0], () => element("li"), (item, [text, look]) => {
    say(item, text);
    paint(item, look);
  });
}

function showRoutes() {
  const then = new Map(before?.routes.map((it) => [it.name, it]));
  keyed($("routes"), state.routes, (it) => it.name, () => row(6, [2, 3, 4, 5]), (line, route) => {
    const old = then.get(route.name);
    const requests = rate(route.requests, old?.requests);
    const errors = rate(route.errors, old?.errors);
    const mean = (route.seconds - old?.seconds) / (route.requests - old?.requests);
    const cells = line.children;
    say(cells[0], route.name);
    say(cells[1], route.cluster);
    say(cells[2], number(requests));
    say(cells[3], number(errors));
    paint(cells[3], errors > 0 ? "number bad" : "number");
    say(cells[4], requests > 0 ? time(mean) : "–");
    say(cells[5], String(route.in_flight));
  });
}

function showClusters() {
  const then = new Map(before?.clusters.map((it) => [it.name, it]));
  keyed($("clusters"), state.clusters, (it) => it.name, makeCluster, (article, cluster) => {
    showCluster(article, cluster, then.get(cluster.name));
  });
  keyed($("explain-cluster"), state.clusters, (it) => it.name, (it) => element("option", it.name), () => {});
}

function makeCluster(cluster) {
  const article = $("cluster").content.firstElementChild.cloneNode(true);
  article.querySelector("h3").textContent = cluster.name;
  article.querySelector(".scroll").setAttribute("aria-label", `Nodes of ${cluster.name}`);
  return article;
}

function showCluster(article, cluster, then) {
  const { algorithm, fingerprint } = cluster.placement;
  const nodes = nodesOf(cluster);
  const figures = [
    plural(cluster.shards.length, "shard"), plural(nodes.length, "node"), `placement ${algorithm}`,
    `fingerprint ${fingerprint}`, `${number(rate(cluster.requests, then?.requests))} requests/s`,
    `${number(rate(cluster.retries, then?.retries))} retries/s`,
  ];
  say(article.querySelector(".figures"), figures.join(" · "));
  if (article.dataset.drawn !== fingerprint) {
    article.dataset.drawn = fingerprint;
    draw(article, cluster);
  }
  const wanted = $("wanted").value.trim().toLowerCase();
  const shown = nodes.filter(({ node, shard }) =>
    (!$("unwell").checked || node.standing !== "healthy") &&
    (wanted === "" || `${shard.name} ${node.id} ${node.address}`.toLowerCase().includes(wanted)));
  const old = new Map(then ? nodesOf(then).map(({ node }) => [node.id, node]) : []);
  keyed(article.querySelector("tbody"), shown.slice(0, ROWS_MAX), (it) => `${it.shard.name} ${it.node.id}`,
    makeNode, (line, it) => showNode(line, it, old.get(it.node.id)));
  const hidden = nodes.length - Math.min(shown.length, ROWS_MAX);
  say(article.querySelector(".more"), hidden > 0 ? `${plural(hidden, "node")} not shown` : "");
}

function makeNode({ at }) {
  const line = row(8, [3, 4, 5, 6]);
  const swatch = element("span", "", "swatch");
  swatch.style.background = colour(at);
  line.firstElementChild.append(swatch, element("span"));
  line.children[2].append(element("span", "", "badge"));
  return line;
}

function showNode(line, { node, shard }, then) {
  const cells = line.children;
  say(cells[0].lastElementChild, shard.name);
  say(cells[1], node.id);
  say(cells[2].firstElementChild, node.standing);
  paint(cells[2].firstElementChild, `badge ${standings[node.standing] ?? "warn"}`);
  say(cells[3], number(rate(node.attempts, then?.attempts)));
  const failures = rate(node.failed, then?.failed);
  say(cells[4], number(failures));
  paint(cells[4], failures > 0 ? "number bad" : "number");
  say(cells[5], String(node.in_flight));
  say(cells[6], String(node.connections));
  say(cells[7], node.address);
}

function showReloads() {
  const key = (it) => [it.at_seconds, it.outcome, it.generation].join(" ");
  keyed($("reloads"), state.reloads, key, () => element("li"), (item, change) => {
    const when = new Date(change.at_seconds * 1000).toLocaleString();
    if (change.outcome === "rejected") {
      const more = change.more > 0 ? `; and ${change.more} more` : "";
      say(item, `${when}: refused: ${change.problems.join("; ")}${more}`);
      paint(item, "bad");
      return;
    }
    const moved = Object.entries(change.moved).map(([name, share]) => `${percent(share)} of ${name}`);
    const what = moved.length > 0 ? `moved ${moved.join(", ")}` : "moved no key";
    say(item, `${when}: generation ${change.generation} serves; ${what}`);
  });
}

// === the ring ===

// A part of a ring from `start` to `end`, as shares of a turn.
function arc(inner, outer, start, end) {
  const at = (radius, turn) => {
    const angle = (turn - 0.25) * 2 * Math.PI;
    return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
  };
  // A whole turn would begin where it ends, and show nothing.
  const last = Math.min(end, start + 0.99999);
  const large = last - start > 0.5 ? 1 : 0;
  return `M${at(outer, start)}A${outer} ${outer} 0 ${large} 1 ${at(outer, last)}` +
    `L${at(inner, last)}A${inner} ${inner} 0 ${large} 0 ${at(inner, start)}Z`;
}

function draw(article, cluster) {
  const svg = article.querySelector("svg");
  svg.replaceChildren();
  const part = (shard, ...place) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", arc(...place));
    path.setAttribute("fill", colour(shard));
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${cluster.shards[shard].name}: ${percent(cluster.shards[shard].ownership)}`;
    path.append(title);
    svg.append(path);
  };
  let turn = 0;
  cluster.shards.forEach((shard, at) => {
    if (shard.ownership > 0) part(at, 88, 104, turn, turn + shard.ownership);
    turn += shard.ownership;
  });
  const shares = cluster.shards.map((it) => `${it.name} ${percent(it.ownership)}`);
  const few = shares.slice(0, 12).join(", ") + (shares.length > 12 ? ` and ${shares.length - 12} more` : "");
  svg.setAttribute("aria-label", `Who owns which share of the keys: ${few}`);
  say(article.querySelector("figcaption"), `Outside: each shard's share. Inside: who owns which keys, around the ring. ${few}`);
  const label = (text, y, className) => {
    const made = document.createElementNS(SVG, "text");
    made.setAttribute("y", y);
    made.setAttribute("class", className);
    made.textContent = text;
    svg.append(made);
  };
  label(plural(cluster.shards.length, "shard"), 0, "");
  label(cluster.placement.algorithm, 18, "quiet");
  ask(`v1/ring?cluster=${encodeURIComponent(cluster.name)}`).then((ring) => {
    let from = 0;
    for (const [shard, length] of ring.arcs) {
      part(shard, 58, 84, from / ring.samples, (from + length) / ring.samples);
      from += length;
    }
  }, () => delete article.dataset.drawn);
}

// === explain ===

async function explain(event) {
  event.preventDefault();
  const cluster = $("explain-cluster").value;
  const key = $("explain-key").value;
  const answer = await ask(`v1/explain?cluster=${encodeURIComponent(cluster)}&key=${encodeURIComponent(key)}`)
    .catch((error) => ({ error: error.message }));
  if (answer.error) {
    $("explained").replaceChildren(element("p", answer.error, "bad"));
    return;
  }
  const facts = [`shard ${answer.shard}`, `token ${answer.token}`];
  if (answer.slot !== null) facts.push(`slot ${answer.slot}`);
  if (answer.pinned) facts.push("pinned");
  const order = element("ol");
  for (const it of answer.candidates.slice(0, 20)) {
    const skipped = it.skipped ? `, passed by: ${it.skipped}` : "";
    const look = it.skipped ? standings[it.skipped] : "";
    order.append(element("li", `${it.node} of ${it.shard} at ${it.address}${skipped}`, look));
  }
  $("explained").replaceChildren(element("p", facts.join(" · ")), order);
}

// === asking ===

async function ask(path) {
  const response = await fetch(path, { cache: "no-store" });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail ?? response.statusText);
  return answer;
}

async function poll() {
  try {
    const answer = await ask("v1/state");
    before = state;
    state = answer;
    show();
  } catch (error) {
    say($("phase"), `no answer: ${error.message}`);
    paint($("phase"), "badge bad");
  }
  // Whoever looks away asks for nothing.
  if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
  setTimeout(poll, POLL_MS);
}

$("explain").addEventListener("submit", explain);
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", () => state && show());
poll();
