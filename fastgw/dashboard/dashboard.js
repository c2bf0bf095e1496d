"use strict";

const LOOK_MS = 1000;
// Workers write what they have counted twice a second, so that rates of one second would jump.
const LOOKS_BACK = 4;
const KEPT = 120; // rates in the line
const EVENTS = 50;
const FAILURES = 50;
const LINES = 200;
const FAILED = ["none", "5xx"];

const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("fastgw-token") || "";
const looks = [];
const rates = [];
// Whether the routing table may be another one by now.
let isStale = false;

// Asking.

class Unauthorized extends Error {}

async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const asked = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(path, { ...asked, cache: "no-store" });
  if (response.status === 401) throw new Unauthorized();
  const told = await response.json();
  if (!response.ok) throw new Error(told.detail || `status ${response.status}`);
  return told;
}

// Writing: always as text, whatever it is.

function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Rows are kept where they are, so that focus and selection stay.
function rowsOf(table, count, columns) {
  const body = $(table).tBodies[0];
  while (body.rows.length > count) body.deleteRow(-1);
  while (body.rows.length < count) {
    const row = body.insertRow();
    for (let column = 0; column < columns; column += 1) row.insertCell();
  }
  return [...body.rows];
}

function write(row, texts, kind) {
  row.className = kind || "";
  texts.forEach((text, column) => {
    if (row.cells[column].textContent !== text) row.cells[column].textContent = text;
  });
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const rate = (count, seconds) => (count / seconds < 10 ? (count / seconds).toFixed(1) : whole.format(count / seconds));
const percent = (part, all) => (all ? `${(100 * part / all).toPrecision(3).replace(/\.?0+$/, "")} %` : "–");

function time(seconds) {
  if (seconds === null) return "–";
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${Number((seconds * 1e3).toPrecision(3))} ms` : `${Number(seconds.toPrecision(3))} s`;
}

// Figures.

const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);
const less = (now, earlier) => Math.max(0, now - (earlier || 0));
const cells = (now, earlier) => now.slice(0, -1).map((count, place) => less(count, earlier && earlier[place]));

// Even within a bucket; what is beyond the last bound is told as that.
function quantile(counts, share, bounds) {
  const wanted = share * sum(counts);
  if (!wanted) return null;
  let soFar = 0;
  for (let place = 0; place < bounds.length; place += 1) {
    if (counts[place] && soFar + counts[place] >= wanted) {
      const least = place ? bounds[place - 1] : 0;
      return least + (bounds[place] - least) * (wanted - soFar) / counts[place];
    }
    soFar += counts[place];
  }
  return bounds[bounds.length - 1];
}

const byName = (list) => new Map((list || []).map((one) => [one.name, one]));

function routesSince(now, earlier) {
  const known = byName(earlier && earlier.routes);
  return now.routes.map((route) => {
    const old = known.get(route.name);
    const counts = Object.fromEntries(
      Object.entries(route.requests).map(([status, count]) => [status, less(count, old && old.requests[status])]));
    return {
      ...route, counts, total: sum(Object.values(counts)), failed: sum(FAILED.map((status) => counts[status])),
      took: cells(route.duration, old && old.duration), own: cells(route.own_duration, old && old.own_duration),
    };
  });
}

function add(lists) {
  return lists.length ? lists[0].map((_, place) => sum(lists.map((list) => list[place]))) : [];
}

// Drawing.

function drawNow(routes, now, seconds) {
  const total = sum(routes.map((route) => route.total));
  const took = add(routes.map((route) => route.took));
  const own = add(routes.map((route) => route.own));
  $("rate").textContent = rate(total, seconds);
  $("failing").textContent = percent(sum(routes.map((route) => route.failed)), total);
  $("p50").textContent = time(quantile(took, 0.5, now.bounds_s));
  $("p99").textContent = time(quantile(took, 0.99, now.bounds_s));
  $("own").textContent = time(quantile(own, 0.99, now.bounds_s));
  $("connections").textContent = whole.format(sum(now.workers.map((worker) => worker.connections)));
  rates.push(total / seconds);
  if (rates.length > KEPT) rates.shift();
  const most = Math.max(1, ...rates);
  const points = rates.map((one, place) => `${place + KEPT - rates.length},${29 - 28 * one / most}`);
  $("spark").querySelector("polyline").setAttribute("points", points.join(" "));
}

function drawRoutes(routes, now, seconds) {
  const used = routes.filter((route) => sum(Object.values(route.requests))).sort((one, other) => other.total - one.total);
  const rows = rowsOf("routes", used.length, 9);
  used.forEach((route, place) => {
    const refused = Object.entries(route.refusals).map(([reason, count]) => `${reason} ${whole.format(count)}`);
    const kind = route.total && route.failed / route.total > 0.05 ? "bad" : "";
    write(rows[place], [
      route.name || "(none)", rate(route.total, seconds), percent(route.failed, route.total),
      percent(route.counts["4xx"], route.total), time(quantile(route.took, 0.5, now.bounds_s)),
      time(quantile(route.took, 0.99, now.bounds_s)), time(quantile(route.own, 0.5, now.bounds_s)),
      time(quantile(route.own, 0.99, now.bounds_s)), refused.join(", "),
    ], kind);
  });
}

function stateOf(endpoint, workers) {
  if (endpoint.draining) return ["draining", "warn"];
  if (endpoint.healthy === false) return ["unhealthy", "bad"];
  const by = endpoint.ejected_by_workers;
  if (by) return [by < workers ? `ejected by ${by} of ${workers}` : "ejected", "bad"];
  return [endpoint.backup ? "backup" : "up", ""];
}

function drawEndpoints(now, earlier, seconds) {
  const known = new Map();
  for (const upstream of (earlier ? earlier.upstreams : [])) {
    for (const endpoint of upstream.endpoints) known.set(`${upstream.name} ${endpoint.name}`, endpoint);
  }
  const all = now.upstreams.flatMap((upstream) => upstream.endpoints.map((endpoint) => [upstream, endpoint]));
  const rows = rowsOf("endpoints", all.length, 10);
  all.forEach(([upstream, endpoint], place) => {
    const old = known.get(`${upstream.name} ${endpoint.name}`);
    const total = less(sum(Object.values(endpoint.requests)), old && sum(Object.values(old.requests)));
    const head = cells(endpoint.head_duration, old && old.head_duration);
    const failed = Object.entries(endpoint.failures).filter(([, count]) => count)
      .map(([kind, count]) => `${kind} ${whole.format(count)}`);
    const [state, kind] = stateOf(endpoint, now.workers.length);
    write(rows[place], [
      upstream.name, endpoint.name, state, rate(total, seconds), String(endpoint.active),
      String(endpoint.idle_connections), time(quantile(head, 0.5, now.bounds_s)),
      time(quantile(head, 0.99, now.bounds_s)), failed.join(", "),
    ], kind);
    rows[place].cells[2].className = "state";
    drawButton(rows[place].cells[9], upstream.name, endpoint);
  });
}

function drawButton(place, upstream, endpoint) {
  let button = place.querySelector("button");
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", drain);
    place.append(button);
  }
  const word = endpoint.draining ? "Undrain" : "Drain";
  if (button.textContent !== word) button.textContent = word;
  button.setAttribute("aria-label", `${word} ${endpoint.name} of ${upstream}`);
  Object.assign(button.dataset, { upstream, endpoint: endpoint.name, draining: String(!endpoint.draining) });
}

async function drain(event) {
  const { upstream, endpoint, draining } = event.target.dataset;
  const what = draining === "true" ? `Give ${endpoint} of ${upstream} no more requests?` : `Give ${endpoint} requests again?`;
  if (!window.confirm(what)) return;
  try {
    await ask("api/endpoints", { upstream, endpoint, draining: draining === "true" });
    $("drain-trouble").textContent = "";
    await look();
  } catch (error) {
    $("drain-trouble").textContent = error.message;
  }
}

function drawWorkers(now, earlier, seconds) {
  const known = new Map((earlier ? earlier.workers : []).map((worker) => [`${worker.number} ${worker.pid}`, worker]));
  const rows = rowsOf("workers", now.workers.length, 7);
  now.workers.forEach((worker, place) => {
    const old = known.get(`${worker.number} ${worker.pid}`);
    const cpu = old ? `${Math.round(100 * (worker.cpu_s - old.cpu_s) / seconds)} %` : "–";
    write(rows[place], [
      String(worker.number), String(worker.pid), cpu, `${Math.round(worker.memory_bytes / 1048576)} MiB`,
      whole.format(worker.connections), rate(less(worker.requests, old && old.requests), seconds),
      time(quantile(cells(worker.lag, old && old.lag), 0.99, now.bounds_s)),
    ]);
  });
}

// Failures: each row is made once, so that what a button is for does not change under it.

let newestFailure = 0;

function drawFailures(told) {
  const body = $("failures").tBodies[0];
  const newest = told.failures.length ? told.failures[0].number : 0;
  if (newest < newestFailure) {
    // Another gateway has taken the place of the one that knew those.
    body.replaceChildren();
    newestFailure = 0;
  }
  for (const one of told.failures.filter((failure) => failure.number > newestFailure).reverse()) {
    drawFailure(body.insertRow(0), one);
  }
  while (body.rows.length > FAILURES) {
    // Clients' own hide no others.
    const clients = body.getElementsByClassName("clients");
    (clients.length > FAILURES / 2 ? clients[clients.length - 1] : body.rows[body.rows.length - 1]).remove();
  }
  newestFailure = newest;
  const more = told.left_out ? `And ${whole.format(told.left_out)} more: too many in a second.` : "";
  $("more-failures").textContent = newest ? more : "None so far.";
}

function drawFailure(row, one) {
  const request = `${one.method} ${one.host}${one.path}`;
  const more = [one.reason, one.attempts > 1 ? `${one.attempts} tries` : ""].filter((part) => part).join(", ");
  row.classList.toggle("clients", one.is_clients);
  cell(row, new Date(one.at).toLocaleTimeString());
  cell(row, one.status ? String(one.status) : "none");
  cell(row, `${one.method ? request : "(unreadable)"} from ${one.client}`, "wraps");
  cell(row, more ? `${one.explanation} (${more})` : one.explanation, "wraps");
  cell(row, one.route || "(none)");
  cell(row, one.endpoint ? `${one.endpoint} of ${one.upstream}` : one.upstream || "–");
  cell(row, time(one.duration_ms / 1e3));
  const place = cell(row, "");
  if (!one.method) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Explain";
  button.setAttribute("aria-label", `Explain ${request}`);
  button.addEventListener("click", () => {
    $("method").value = one.method;
    $("url").value = `${one.scheme}://${one.host}${one.path}`;
    $("url").focus();
  });
  place.append(button);
}

// The log as it is made.

let logging = null;

function showLog(text, kind) {
  const item = document.createElement("li");
  item.textContent = text;
  item.className = kind;
  $("log").prepend(item);
  while ($("log").children.length > LINES) $("log").lastChild.remove();
}

function logEnds() {
  if (logging) logging.abort();
  logging = null;
  $("log-button").textContent = "Show";
  $("log-button").setAttribute("aria-pressed", "false");
}

$("listen").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (logging) return logEnds();
  const own = new AbortController();
  logging = own;
  $("log-button").textContent = "Stop";
  $("log-button").setAttribute("aria-pressed", "true");
  $("log-trouble").textContent = "";
  const wanted = new URLSearchParams();
  if ($("log-route").value) wanted.set("route", $("log-route").value);
  if ($("log-status").value) wanted.set("status", $("log-status").value);
  try {
    for await (const { event: kind, data } of messages(`api/log?${wanted}`, {}, own.signal)) {
      if (kind === "line") showLog(data, "line");
      if (kind === "dropped") showLog(`${whole.format(JSON.parse(data).count)} lines are left out`, "dropped");
    }
  } catch (error) {
    if (!own.signal.aborted) $("log-trouble").textContent = error.message;
  }
  if (logging === own) logEnds();
  return undefined;
});

// Explanations.

$("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = $("explained");
  const headers = $("headers").value.split("\n").filter((line) => line.includes(":"))
    .map((line) => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]);
  place.replaceChildren();
  try {
    const told = await ask("api/explain", { method: $("method").value, url: $("url").value, headers });
    const list = document.createElement("ol");
    for (const step of told.steps) {
      const item = document.createElement("li");
      const name = document.createElement("strong");
      name.textContent = `${step.name}: `;
      const why = document.createElement("span");
      why.className = "why";
      why.textContent = step.reason ? ` (${step.reason})` : "";
      item.append(name, step.verdict, why);
      if (step.considered.length) {
        const others = document.createElement("ul");
        for (const one of step.considered) {
          const other = document.createElement("li");
          other.textContent = `${one.name}: ${one.verdict}${one.reason ? `, ${one.reason}` : ""}`;
          others.append(other);
        }
        item.append(others);
      }
      list.append(item);
    }
    place.append(list);
  } catch (error) {
    place.textContent = error.message;
  }
});

// Server-sent events, over fetch: an EventSource can't send a token.

async function* messages(path, more, signal) {
  const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more };
  const response = await fetch(path, { headers, cache: "no-store", signal });
  if (response.status === 401) throw new Unauthorized();
  if (!response.ok) throw new Error((await response.json()).detail);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const complete = text.split("\n\n");
    text = complete.pop();
    for (const message of complete) {
      yield Object.fromEntries(message.split("\n").filter((line) => line.includes(": "))
        .map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
    }
  }
}

async function listen() {
  let last = "";
  for (;;) {
    try {
      for await (const fields of messages("api/events", last ? { "Last-Event-ID": last } : {})) {
        last = happened(fields) || last;
      }
    } catch (error) {
      if (error instanceof Unauthorized) return;
      // The gateway is away; it is asked again.
    }
    await new Promise((resolve) => setTimeout(resolve, 2 * LOOK_MS));
  }
}

function happened(fields) {
  if (!fields.data) return "";
  const event = JSON.parse(fields.data);
  if (["reload", "upgrade"].includes(event.kind) && event.outcome === "done") isStale = true;
  const item = document.createElement("li");
  const when = document.createElement("time");
  when.dateTime = event.at;
  when.textContent = new Date(event.at).toLocaleTimeString();
  item.append(when, `${event.kind} ${event.outcome}: ${event.detail}`);
  $("events").prepend(item);
  while ($("events").children.length > EVENTS) $("events").lastChild.remove();
  return fields.id || "";
}

// From one look to the next.

async function look() {
  const now = await ask("api/summary");
  const before = looks[0];
  const seconds = before ? Math.max(now.at - before.at, 0.001) : Infinity;
  if (before) {
    const routes = routesSince(now, before);
    drawNow(routes, now, seconds);
    drawRoutes(routes, now, seconds);
  }
  drawEndpoints(now, before, seconds);
  drawWorkers(now, before, seconds);
  drawFailures(await ask("api/failures"));
  looks.push(now);
  if (looks.length > LOOKS_BACK) looks.shift();
}

async function drawOnce() {
  const status = await ask("api/status");
  $("about").textContent = `${status.version}, ${status.config}, since ${new Date(status.since).toLocaleString()}`;
  const table = await ask("api/routes");
  const body = $("table").tBodies[0];
  body.replaceChildren();
  for (const route of table) {
    const row = body.insertRow();
    cell(row, route.host);
    cell(row, route.path, "wraps");
    cell(row, route.methods.join(", ") || "any");
    cell(row, route.conditions.join(", ") || "–", "wraps");
    cell(row, route.goes_to, "wraps");
    cell(row, route.name);
  }
  $("routes-there-are").replaceChildren(...table.map((route) => new Option(route.name)));
}

function showState(text, kind) {
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = kind;
}

async function run() {
  try {
    await drawOnce();
  } catch (error) {
    if (error instanceof Unauthorized) return askForToken();
    showState(`no answer: ${error.message}`, "bad");
    setTimeout(run, 2 * LOOK_MS);
    return undefined;
  }
  $("login").hidden = true;
  $("content").hidden = false;
  listen();
  for (;;) {
    try {
      await look();
      if (isStale) {
        isStale = false;
        await drawOnce();
      }
      showState("", "");
    } catch (error) {
      if (error instanceof Unauthorized) return askForToken();
      isStale = true;
      showState("the gateway does not answer", "bad");
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function askForToken() {
  $("content").hidden = true;
  $("login").hidden = false;
  $("login-trouble").textContent = token ? "That is not the token." : "";
  $("token").focus();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("fastgw-token", token);
  run();
});

run();
