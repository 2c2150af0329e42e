// The page: draws what the system tells. Everything is set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
// Videos shown at first, and by each further press.
const FEW = 8;
const MORE = 25;
const state = { report: null, day: null, videos: [], sources: [], more: false, shown: FEW, failed: [], online: null };

function make(name, attributes = {}, ...children) {
  const it = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") it.className = value;
    else if (key.startsWith("on")) it.addEventListener(key.slice(2), value);
    else if (value !== undefined) it.setAttribute(key, value);
  }
  it.append(...children.filter((child) => child !== null && child !== undefined));
  return it;
}

const bytes = (n) => {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i += 1) n /= 1000;
  return `${n.toFixed(n < 10 && i > 0 ? 1 : 0)} ${units[i]}`;
};
const length = (s) => {
  // Korean writes the unit close to the number.
  const of = (n, unit) => `${Math.round(n)}${language.now === "ko" ? "" : " "}${text(unit)}`;
  if (s < 90) return of(s, "seconds");
  if (s < 5400) return of(s / 60, "minutes");
  if (s < 172800) return of(s / 3600, "hours");
  return of(s / 86400, "days");
};
const clock = (time) => new Date(time).toLocaleTimeString(language.now, { hour: "2-digit", minute: "2-digit", hour12: false });

const codec = (name) => ({ h264: "H.264", h265: "H.265", hevc: "H.265", mjpeg: "MJPEG", jpeg: "MJPEG" }[name.toLowerCase()] ?? name.toUpperCase());

async function ask(path, options) {
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  if (answer.status === 401) location.assign("/login");
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

// ---- live ----

// Where the daemons are services of their own, no supervisor is missed.
const isGone = (process) => process.pid === null && process.name !== "system";

function drawLive() {
  const report = state.report;
  const summary = $("summary");
  const alarms = report ? report.alarms : [];
  const stopped = report ? report.processes.some(isGone) : false;
  const down = report ? report.sources.filter((it) => it.down_since || it.error) : [];
  const lines = alarms.map(sentence);
  if (report) {
    for (const it of report.processes) {
      if (isGone(it)) lines.push(`${text(`process_${it.name}`)}: ${text(`state_${it.state}`)}`);
    }
    for (const it of down) lines.push(`${it.name}: ${sentence(it.down_reason || it.error || text("state_down"))}`);
  }
  let kind = "wait", headline = "loading";
  if (state.online === false) headline = "offline";
  else if (report) {
    kind = lines.length ? (stopped || down.length ? "bad" : "note") : "good";
    headline = lines.length ? "attention" : "good";
  }
  // Words that did not change are not set again: a screen reader would read them every two seconds.
  const told = JSON.stringify([kind, headline, lines, language.now]);
  if (summary.dataset.told !== told) {
    summary.dataset.told = told;
    summary.className = kind;
    $("headline").textContent = text(headline);
    $("alarms").replaceChildren(...lines.map((it) => make("li", {}, it)));
  }
  if (!report) return;
  $("cameras").replaceChildren(...(report.sources.length ? report.sources.map(camera) : [make("p", { class: "note" }, text("no_cameras"))]));
  drawMachine(report);
}

function camera(it) {
  const down = Boolean(it.down_since) || it.state === "not running";
  const kind = down ? "bad" : it.state === "recording" ? "good" : "note";
  const facts = [];
  if (it.state === "recording") {
    facts.push(`${it.fps.toFixed(1)} ${text("fps")} · ${(it.bitrate_bps / 1e6).toFixed(1)} Mbit/s`);
  }
  if (it.width && it.height) facts.push(`${it.width}×${it.height}${it.codec ? ` ${codec(it.codec)}` : ""}`);
  if (it.down_since) facts.push(text("down_since").replace("{}", clock(it.down_since)));
  const troubles = [];
  if (it.gaps) troubles.push(`${text("gaps")}: ${it.gaps}`);
  if (it.packets_lost) troubles.push(`${text("lost")}: ${it.packets_lost}`);
  if (troubles.length) facts.push(troubles.join(" · "));
  const why = it.error || it.down_reason;
  return make("article", { class: `card ${kind}` },
    make("h3", {}, it.name),
    make("p", { class: "state" }, text(it.down_since ? "state_down" : `state_${it.state}`)),
    ...facts.map((fact) => make("p", { class: "note" }, fact)),
    why ? make("p", { class: "wrong" }, sentence(why)) : null);
}

function drawMachine(report) {
  const rows = [];
  const row = (name, ...lines) => rows.push(make("div", {}, make("dt", {}, name), make("dd", {}, ...lines.map((it) => make("p", {}, it)))));
  if (report.queue) {
    const waiting = report.queue.ready + report.queue.active + report.queue.deferred;
    const oldest = report.queue.oldest_s ? ` (${text("oldest")}: ${length(report.queue.oldest_s)})` : "";
    const outlook = report.queue.outlook;
    const then = outlook === "grows" ? [text("grows")] : outlook ? [text("empty_in").replace("{}", length(outlook.empty_in_seconds))] : [];
    row(text("queue"), `${waiting}${oldest}`, ...then);
  }
  if (report.throughput) {
    // Of videos that are under way only their frames are known.
    const { realtime_factor: factor, frames_per_second: frames } = report.throughput;
    row(text("speed"), factor > 0 ? `${factor.toFixed(1)} ${text("speed_unit")}` : `${frames.toFixed(1)} ${text("fps")}`);
  }
  if (report.disk) {
    const hours = report.disk.hours_left;
    const lines = [bytes(report.disk.free_bytes)];
    if (hours !== null) lines.push(`${text("full_in")} ${length(hours * 3600)}, ${text("if_kept")}`);
    row(text("disk"), ...lines);
    for (const it of report.disk.used) row(text(`dir_${it.name}`), bytes(it.bytes));
  }
  for (const it of report.processes) {
    const up = it.uptime_s !== null ? ` · ${text("uptime")} ${length(it.uptime_s)}` : "";
    const use = [];
    if (it.cpu_percent !== null) use.push(`${Math.round(it.cpu_percent)} % CPU`);
    if (it.memory_bytes !== null) use.push(bytes(it.memory_bytes));
    if (it.restarts) use.push(`${text("restarts")}: ${it.restarts}`);
    row(text(`process_${it.name}`), `${text(`state_${it.state}`)}${up}`, ...(use.length ? [use.join(" · ")] : []));
  }
  $("machine").replaceChildren(...rows);
}

function listen() {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => {
    const before = state.report;
    state.report = JSON.parse(event.data);
    state.online = true;
    drawLive();
    const count = (report) => report && report.queue ? report.queue.failed + report.queue.corrupt : 0;
    if (!before || count(before) !== count(state.report)) loadFailed();
    const done = (report) => report && report.queue ? report.queue.done : 0;
    if (before && done(before) !== done(state.report)) loadDaySoon();
  };
  source.onerror = () => {
    state.online = false;
    drawLive();
    // A page that may no longer be seen is asked for again, which leads to the login.
    if (source.readyState === EventSource.CLOSED) {
      ask("/api/status").catch(() => {});
      setTimeout(listen, 3000);
    }
  };
}

// ---- the day ----

const SVG = "http://www.w3.org/2000/svg";
function draw(name, attributes) {
  const it = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
  return it;
}

function drawDay() {
  const day = state.day;
  if (!day) return;
  const rows = day.sources.map((source) => {
    const svg = draw("svg", { viewBox: "0 0 1440 40", preserveAspectRatio: "none", role: "img" });
    const counts = {};
    for (const it of source.spans) counts[it.kind] = (counts[it.kind] || 0) + 1;
    const spoken = Object.entries(counts).map(([kind, n]) => `${text(`kind_${kind}`)}: ${n}`).join(", ");
    svg.setAttribute("aria-label", `${source.name}. ${spoken || text("no_day")}`);
    svg.append(draw("rect", { x: 0, y: 0, width: 1440, height: 40, class: "empty" }));
    for (const it of source.spans) {
      // What is short is drawn wide enough to be seen.
      const width = Math.max((it.right - it.left) * 1440, it.kind === "blurred" ? 0.5 : 3);
      const rect = draw("rect", { x: it.left * 1440, y: 0, width, height: 40, class: it.kind });
      const words = `${source.name} · ${it.from}–${it.to} · ${text(`kind_${it.kind}`)}${it.why ? ` · ${it.why}` : ""}`;
      const title = draw("title", {});
      title.textContent = words;
      rect.append(title);
      rect.addEventListener("click", () => { $("span").textContent = words; });
      svg.append(rect);
    }
    for (let hour = 6; hour < 24; hour += 6) svg.append(draw("line", { x1: hour * 60, x2: hour * 60, y1: 0, y2: 40, class: "hour" }));
    return make("div", { class: "lane" }, make("span", { class: "name", title: source.name }, source.name), svg);
  });
  const hours = make("div", { class: "hours", "aria-hidden": "true" }, ...["00", "06", "12", "18", "24"].map((it) => make("span", {}, it)));
  $("timeline").replaceChildren(...(rows.length ? [...rows, hours] : [make("p", { class: "note" }, text("no_day"))]));
}

function drawVideos() {
  const chosen = $("source").value;
  const names = [...new Set([...state.sources, ...(state.report ? state.report.sources.map((it) => it.name) : [])])].sort();
  $("source").replaceChildren(make("option", { value: "" }, text("all")), ...names.map((it) => make("option", { value: it }, it)));
  $("source").value = names.includes(chosen) ? chosen : "";
  const items = state.videos.slice(0, state.shown).map((it) => {
    const name = `${encodeURIComponent(it.source)}/${encodeURIComponent(it.file)}`;
    const path = `/videos/${name}`;
    const facts = [length(it.seconds), bytes(it.bytes)];
    if (it.heads) facts.push(`${text("heads")}: ${it.heads}`);
    const words = `${it.source} ${it.clock}`;
    return make("li", {},
      make("div", { class: "what" }, make("strong", {}, it.clock), ` ${it.source}`, make("p", { class: "note" }, facts.join(" · "))),
      make("div", { class: "actions" },
        make("button", { type: "button", onclick: () => play(path, words), "aria-label": `${text("play")}: ${words}` }, text("play")),
        it.original ? make("button", { type: "button", class: "quiet", onclick: () => play(path, words, `/originals/${name}`), "aria-label": `${text("compare")}: ${words}` }, text("compare")) : null,
        make("a", { class: "button quiet", href: `${path}?download=1`, download: it.file, "aria-label": `${text("download")}: ${words}` }, text("download"))));
  });
  $("videos").replaceChildren(...(items.length ? items : [make("li", { class: "note" }, text("no_videos"))]));
  $("more").hidden = !state.more && state.videos.length <= state.shown;
}

function play(path, words, original) {
  $("player").hidden = false;
  show(original);
  $("playing").textContent = words;
  $("video").src = path;
  $("video").play().catch(() => {});
  $("player").scrollIntoView({ block: "nearest" });
}

function stop() {
  $("video").pause();
  $("video").removeAttribute("src");
  $("video").load();
  show(null);
  $("player").hidden = true;
}

// The original beside the blurred video, which leads.
function show(original) {
  $("before").hidden = !original;
  $("after").hidden = !original;
  if (original) $("original").src = original;
  else {
    $("original").removeAttribute("src");
    $("original").load();
  }
}

function follow() {
  if ($("before").hidden) return;
  const [lead, other] = [$("video"), $("original")];
  other.playbackRate = lead.playbackRate;
  if (Math.abs(other.currentTime - lead.currentTime) > 0.15) other.currentTime = lead.currentTime;
  if (lead.paused || lead.ended) other.pause();
  else other.play().catch(() => {});
}

let asked = 0;
async function loadDay() {
  const mine = asked += 1;
  const date = encodeURIComponent($("date").value);
  const query = date ? `date=${date}` : "";
  const [day, videos] = await Promise.all([ask(`/api/timeline?${query}`), ask(videosPath(query))]);
  if (mine !== asked) return;
  if (!$("date").value) $("date").value = day.date;
  Object.assign(state, { day, videos: videos.videos, more: videos.more, sources: videos.sources });
  $("originals").hidden = !videos.originals;
  drawDay();
  drawVideos();
}

const videosPath = (query) => `/api/videos?${query}${$("source").value ? `&source=${encodeURIComponent($("source").value)}` : ""}`;

async function showMore() {
  state.shown += MORE;
  if (state.shown > state.videos.length && state.more) await loadMore();
  drawVideos();
}

async function loadMore() {
  const videos = await ask(`${videosPath(`date=${encodeURIComponent($("date").value)}`)}&offset=${state.videos.length}`);
  // What came in meanwhile has moved the others on.
  const known = new Set(state.videos.map((it) => `${it.source}/${it.file}`));
  state.videos.push(...videos.videos.filter((it) => !known.has(`${it.source}/${it.file}`)));
  state.more = videos.more;
}

let soon = null;
function loadDaySoon() {
  // What the visitor opened further below stays as it is.
  if (soon || state.videos.length > 100) return;
  soon = setTimeout(() => { soon = null; loadDay().catch(() => {}); }, 10000);
}

// ---- held back ----

function drawFailed() {
  $("failed-section").hidden = !state.failed.length && !$("failed-told").textContent;
  $("failed").replaceChildren(...state.failed.map((it) => {
    const name = it.original ? it.original.split("/").at(-1) : it.stem;
    return make("li", {},
      make("div", { class: "what" }, make("strong", {}, name), make("p", { class: "note" }, sentence(it.reason))),
      make("div", { class: "actions" }, make("button", { type: "button", "aria-label": `${text("retry")}: ${name}`, onclick: (event) => retry(it.stem, event.target) }, text("retry"))));
  }));
}

async function retry(stem, button) {
  button.disabled = true;
  try {
    await ask(`/api/failed/${encodeURIComponent(stem)}/retry`, { method: "POST" });
    $("failed-told").textContent = text("retried");
  } catch (error) {
    $("failed-told").textContent = text("not_retried") + error.message;
  }
  await loadFailed();
}

async function loadFailed() {
  state.failed = await ask("/api/failed").catch(() => state.failed);
  drawFailed();
}

function drawAll() {
  drawLive();
  drawDay();
  drawVideos();
  drawFailed();
}

for (const it of [$("date"), $("source")]) {
  it.addEventListener("change", () => {
    state.shown = FEW;
    loadDay().catch(() => {});
  });
}
$("more").addEventListener("click", () => showMore().catch(() => {}));
$("close").addEventListener("click", stop);
for (const event of ["play", "pause", "seeked", "timeupdate", "ratechange", "ended"]) $("video").addEventListener(event, follow);
language.listeners.push(drawAll);
drawLive();
listen();
loadDay().catch(() => {});
setInterval(() => { if (!document.hidden) loadDaySoon(); }, 60000);
