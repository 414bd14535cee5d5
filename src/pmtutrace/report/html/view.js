// What is shown of the time, and how hands, wheels and keys change it.

let due = false;

function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(drawAll);
}

function drawAll() {
  due = false;
  const width = rulerCanvas().clientWidth;
  view.ticks = ticks(view.from, view.to, Math.max(2, Math.floor(width / 90)));
  drawRuler();
  drawOverview();
  for (const track of state.tracks) if (isNear(track.row)) track.draw();
  placeCursor();
}

const rulerCanvas = () => $("ruler");

function isNear(row) {
  const box = row.getBoundingClientRect();
  return state.printing || (box.bottom > -400 && box.top < window.innerHeight + 400);
}

function drawRuler() {
  const { ctx, width, height } = prepared(rulerCanvas());
  const x = scale(width);
  ctx.textBaseline = "middle";
  let day = null;
  for (const at of view.ticks.at) {
    const where = Math.round(x(at));
    ctx.fillStyle = colours.line;
    ctx.fillRect(where, height - 5, 1, 5);
    const today = date(at);
    const said = day === today ? timeOfDay(at, view.ticks.step)
      : `${today.slice(5)} ${timeOfDay(at, view.ticks.step)}`;
    const wide = ctx.measureText(said).width;
    if (where - wide / 2 < 0 || where + wide / 2 > width) continue;
    day = today;
    ctx.fillStyle = colours.muted;
    ctx.fillText(said, where - wide / 2, height / 2 - 2);
  }
}

// Packets over all of the time, of all hosts; it stays as it is while somebody zooms.
function overviewSums(wide) {
  const of = [wide, ...state.hidden].join(" ");
  if (state.overview?.of === of) return state.overview.sums;
  const sums = new Float64Array(wide);
  for (const { drops } of state.tracks) {
    if (!drops) continue;
    drops.columns(whole, wide, state.hidden).forEach(({ rates }, at) => {
      sums[at] += rates.reduce((sum, one) => sum + one, 0);
    });
  }
  state.overview = { of, sums };
  return sums;
}

// All of the time, and in it what is shown below.
function drawOverview() {
  const { ctx, width, height } = prepared($("overview"));
  const each = width / (whole.to - whole.from);
  const x = (ms) => (ms - whole.from) * each;
  ctx.fillStyle = colours.band;
  for (const { path } of state.tracks) {
    if (!path) continue;
    for (const [from, to] of path.bands) ctx.fillRect(x(from), 0, Math.max(1, x(to) - x(from)), height);
  }
  const sums = overviewSums(Math.max(1, Math.floor(width)));
  const most = sums.reduce((top, one) => Math.max(top, one), 0) || 1;
  ctx.fillStyle = colours.muted;
  sums.forEach((sum, at) => {
    const high = sum ? Math.max(1, sum / most * (height - 2)) : 0;
    ctx.fillRect(at, height - high, 1, high);
  });
  const left = x(view.from), right = x(view.to);
  if (right - left < width - 1) {
    ctx.fillStyle = colours.panel;
    ctx.globalAlpha = 0.65;
    ctx.fillRect(0, 0, left, height);
    ctx.fillRect(right, 0, width - right, height);
    ctx.globalAlpha = 1;
  }
  ctx.strokeStyle = colours.ink;
  ctx.lineWidth = 1;
  ctx.strokeRect(Math.max(0.5, left), 0.5, Math.max(2, Math.min(width - 0.5, right) - Math.max(0.5, left)), height - 1);
}

function setView(from, to) {
  const most = whole.to - whole.from;
  const span = Math.min(most, Math.max(NARROWEST, to - from));
  const middle = (from + to) / 2;
  view.from = Math.min(Math.max(whole.from, middle - span / 2), whole.to - span);
  view.to = view.from + span;
  if (state.cursor !== null && (state.cursor < view.from || state.cursor > view.to)) setCursor(null);
  const exact = span < 20000 ? 1 : 1000;
  $("range").textContent = `${moment(view.from, exact)} to ${moment(view.to, exact)}, ${length(span)}`;
  for (const told of state.listeners) told();
  redraw();
}

function zoom(factor, around = state.cursor ?? (view.from + view.to) / 2) {
  setView(around - (around - view.from) * factor, around + (view.to - around) * factor);
}

function pan(share) {
  const by = (view.to - view.from) * share;
  setView(view.from + by, view.to + by);
}

const reset = () => setView(whole.from, whole.to);

function setCursor(ms) {
  state.cursor = ms === null ? null : Math.min(view.to, Math.max(view.from, ms));
  for (const track of state.tracks) track.show(state.cursor);
  placeCursor();
}

function placeCursor() {
  const line = $("crosshair"), first = state.tracks[0];
  const slider = $("cursor");
  slider.setAttribute("aria-valuemin", String(Math.round(view.from)));
  slider.setAttribute("aria-valuemax", String(Math.round(view.to)));
  const now = state.cursor ?? view.from;
  slider.setAttribute("aria-valuenow", String(Math.round(now)));
  slider.setAttribute("aria-valuetext", spokenAt(now));
  line.hidden = state.cursor === null || !first;
  if (line.hidden) return;
  const box = first.canvas.getBoundingClientRect();
  const left = box.left - $("tracks").getBoundingClientRect().left + scale(box.width)(state.cursor);
  line.style.transform = `translateX(${left}px)`;
  const exact = view.to - view.from < 20000 ? 1 : 1000;
  $("at").textContent = timeOfDay(state.cursor, exact);
}

function spokenAt(ms) {
  const said = [moment(ms)];
  for (const track of state.tracks.slice(0, 8)) {
    said.push(track.path
      ? `${track.title} ${pathWords(track.host, track.path, ms)}`
      : `${word(track.host.name)} ${track.spoken(ms)}`);
  }
  return said.join("; ");
}

// Where a pointer is, as a time of the view; null beside the plots.
function timeAt(event, canvas, range = view) {
  const box = canvas.getBoundingClientRect();
  return range.from + (event.clientX - box.left) / box.width * (range.to - range.from);
}

// Drag over a canvas to choose a stretch of time.
function brush(canvas, range) {
  let began = null;
  const mark = $("brush");
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    began = event.clientX;
    canvas.setPointerCapture(event.pointerId);
    $("cursor").focus({ preventScroll: true });
  });
  canvas.addEventListener("pointermove", (event) => {
    if (range === view) setCursor(timeAt(event, canvas));
    if (began === null) return;
    const home = $("tracks").getBoundingClientRect();
    const box = canvas.getBoundingClientRect();
    const ends = [began, Math.min(box.right, Math.max(box.left, event.clientX))].sort((a, b) => a - b);
    mark.hidden = ends[1] - ends[0] < 4;
    mark.style.transform = `translateX(${ends[0] - home.left}px)`;
    mark.style.width = `${ends[1] - ends[0]}px`;
  });
  const finish = (event) => {
    if (began === null) return;
    const far = Math.abs(event.clientX - began) >= 4;
    if (far && event.type === "pointerup") {
      const box = canvas.getBoundingClientRect();
      const times = [began, Math.min(box.right, Math.max(box.left, event.clientX))]
        .map((where) => timeAt({ clientX: where }, canvas, range)).sort((a, b) => a - b);
      setView(times[0], times[1]);
    } else if (range === whole && event.type === "pointerup") {
      const middle = timeAt(event, canvas, whole), half = (view.to - view.from) / 2;
      setView(middle - half, middle + half);
    }
    began = null;
    mark.hidden = true;
  };
  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);
  canvas.addEventListener("dblclick", reset);
}

function wheel(event, canvas, always) {
  const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
  // A wheel alone scrolls the page; over the axis it zooms.
  if (!always && !event.ctrlKey && !event.metaKey && !event.altKey && !sideways) return;
  event.preventDefault();
  if (sideways) pan((event.deltaX || event.deltaY) / 800);
  else zoom(Math.exp(event.deltaY * (event.ctrlKey && Math.abs(event.deltaY) < 20 ? 0.02 : 0.002)),
            timeAt(event, canvas));
}

const KEYS = {
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "_": () => zoom(2),
  0: reset, Escape: reset,
  Home: () => setCursor(view.from), End: () => setCursor(view.to),
  PageUp: () => pan(-0.5), PageDown: () => pan(0.5),
};

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const way = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 }[event.key];
  if (way) {
    if (event.shiftKey) pan(way / 4);
    else {
      const step = (view.to - view.from) / 100;
      setCursor((state.cursor ?? (view.from + view.to) / 2 - way * step) + way * step);
    }
  } else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
}

function addTrack(track, before = null) {
  $("tracks").insertBefore(track.build(), before);
  state.tracks.push(track);
  brush(track.canvas, view);
  track.canvas.addEventListener("wheel", (event) => wheel(event, track.canvas, false), { passive: false });
  track.canvas.addEventListener("pointerleave", () => setCursor(null));
}

function buildHost(host) {
  const home = $("tracks");
  if (DATA.hosts.length > 1) home.append(element("h3", "host", word(host.name)));
  const paths = host.paths.map((path) => new PathTrack(host, path));
  paths.slice(0, FIRST_PATHS).forEach((track) => addTrack(track));
  const drops = new DropTrack(host);
  addTrack(drops);
  host.reveal = (lane) => {
    const shown = state.tracks.filter((track) => track.path && track.host === host).length;
    for (const track of paths.slice(shown, lane + 1)) addTrack(track, drops.row);
    tellMore();
    return paths[lane];
  };
  const left = () => paths.length - state.tracks.filter((one) => one.path && one.host === host).length;
  const more = element("button", "more");
  more.type = "button";
  more.addEventListener("click", () => {
    host.reveal(paths.length - left() + MORE_PATHS - 1);
    fillTracks();
    redraw();
  });
  const bar = element("p", "more");
  const unsaid = element("span", "note");
  bar.append(more, unsaid);
  home.append(bar);
  function tellMore() {
    more.hidden = left() === 0;
    more.textContent = `Show ${Math.min(MORE_PATHS, left())} of ${left()} more path MTUs`;
    unsaid.textContent = host.more > 0 ? `${count(host.more)} more are not on this page` : "";
    bar.hidden = more.hidden && !host.more;
  }
  tellMore();
}

function fillTracks() {
  const select = $("which"), chosen = select.selectedIndex;
  select.replaceChildren();
  state.tracks.forEach((track, at) => {
    const option = element("option", "", track.path ? `Path MTU ${track.title}` : track.title);
    option.value = String(at);
    select.append(option);
  });
  const drops = state.tracks.findIndex((track) => track.drops);
  select.selectedIndex = chosen >= 0 ? chosen : drops;
}

function fillTable() {
  if (!$("as-table").open) return;
  const track = state.tracks[Number($("which").value)];
  if (!track) return;
  const { head, rows } = track.table();
  const table = $("values");
  table.replaceChildren();
  table.append(element("caption", "", track.summary));
  const top = table.createTHead().insertRow();
  for (const name of head) {
    const cell = element("th", "", name);
    cell.scope = "col";
    top.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((cell, at) => {
      const made = element(at ? "td" : "th", "", cell);
      if (!at) made.scope = "row";
      line.append(made);
    });
  }
}

function buildLegend() {
  const there = new Set(state.tracks.flatMap((track) => (track.drops ? track.drops.verdicts.filter(
    (_, at) => track.drops.upTo(at, Infinity) > 0) : [])));
  for (const name of there) {
    const button = element("button", `verdict ${kindOf(name)}`);
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(element("span", "swatch"), nameOf(name));
    button.addEventListener("click", () => {
      if (!state.hidden.delete(name)) state.hidden.add(name);
      button.setAttribute("aria-pressed", String(!state.hidden.has(name)));
      setCursor(state.cursor);
      redraw();
    });
    $("legend").append(button);
  }
}

function buildTimeline() {
  readColours();
  DATA.hosts.forEach(buildHost);
  buildLegend();
  fillTracks();
  brush($("overview"), whole);
  brush(rulerCanvas(), view);
  for (const canvas of [rulerCanvas(), $("overview")]) {
    canvas.addEventListener("wheel", (event) => wheel(event, rulerCanvas(), true), { passive: false });
  }
  $("cursor").addEventListener("keydown", key);
  $("zoom-in").addEventListener("click", () => zoom(0.5));
  $("zoom-out").addEventListener("click", () => zoom(2));
  $("earlier").addEventListener("click", () => pan(-0.5));
  $("later").addEventListener("click", () => pan(0.5));
  $("zoom-reset").addEventListener("click", reset);
  $("as-table").addEventListener("toggle", fillTable);
  $("which").addEventListener("change", fillTable);
  state.listeners.push(fillTable);
  new ResizeObserver(redraw).observe($("tracks"));
  window.addEventListener("scroll", redraw, { passive: true });
  reset();
}
