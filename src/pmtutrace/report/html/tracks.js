// The timeline: tracks on one axis, a cursor, and what zooms.

const whole = { from: 0, to: Math.max(DATA.span, 1000) };
{
  const rim = (whole.to - whole.from) * 0.005;
  whole.from -= rim;
  whole.to += rim;
}
const view = { from: whole.from, to: whole.to, ticks: { step: HOUR, at: [] } };
const NARROWEST = 50; // milliseconds
const FIRST_PATHS = 5, MORE_PATHS = 20;
const state = { cursor: null, hidden: new Set(), tracks: [], listeners: [] };

function scale(width) {
  const each = width / (view.to - view.from);
  return (ms) => (ms - view.from) * each;
}

function element(name, words = "", text = null) {
  const made = document.createElement(name);
  if (words) made.className = words;
  if (text !== null) made.textContent = text;
  return made;
}

function pathName(path) {
  const names = path.tunnels.map((one) => word(one[0]));
  return names.length ? `${names.join(", ")} → ${word(path.daddr)}` : word(path.daddr);
}

// The index of the step in force at a time; -1 for none.
const stepAt = (path, ms) => above(path.at, ms) - 1;

function mtuAt(host, path, ms) {
  const known = ms >= path.began && ms <= host.ended
    && !host.gaps.some(([from, to]) => ms >= from && ms < to);
  if (!known) return null;
  const at = stepAt(path, ms);
  const mtu = at < 0 ? null : path.mtu[at];
  return { mtu: mtu ?? path.base, learned: mtu !== null, locked: at >= 0 && mtu !== null && path.locked[at] === 1 };
}

function insides(path, mtu) {
  return path.tunnels
    .filter((one) => one[2] !== null && mtu !== null)
    .map(([name, , overhead, own]) => `${Math.min(own, mtu - overhead)} inside ${word(name)}`);
}

function pathWords(host, path, ms) {
  const found = mtuAt(host, path, ms);
  if (!found) return "not known";
  if (found.mtu === null) return "nothing learned";
  const told = [String(found.mtu) + (found.locked ? " locked" : ""), ...insides(path, found.mtu)];
  return told.join(", ");
}

// Write values of an axis beside a plot, at these heights.
function marks(gutter, values) {
  for (const old of gutter.querySelectorAll(".mark")) old.remove();
  for (const [said, where] of values) {
    const mark = element("span", "mark", said);
    mark.style.top = `${Math.max(0, where - 7)}px`;
    gutter.append(mark);
  }
}

// A row of the timeline: what it is called on the left, and what is drawn of it.
class Track {
  build(words, name, note, values) {
    this.row = element("div", `track ${words}`);
    this.gutter = element("div", "gutter");
    const title = element("div", "name");
    title.append(element("bdi", "", name));
    title.title = name;
    this.value = element("div", values);
    this.gutter.append(title, element("div", "note", note), this.value);
    this.row.append(this.gutter, plotOf(this));
    return this.row;
  }
}

class PathTrack extends Track {
  constructor(host, path) {
    super();
    this.host = host;
    this.path = path;
    const top = path.mtu.reduce((most, mtu) => Math.max(most, mtu ?? 0), path.base ?? 0);
    const room = Math.max(8, (top - path.floor) * 0.14);
    this.low = path.floor - room;
    this.high = top + room;
    this.top = top;
  }

  get title() { return pathName(this.path); }

  get summary() {
    const { path, host } = this;
    const count = path.bands.length;
    return [
      `Path MTU ${this.title}, ${word(path.netns)} on ${word(host.name)}`,
      path.base === null ? "" : `route ${path.base}`, `lowest ${path.floor}`,
      count ? `${count} collapse${count === 1 ? "" : "s"}` : "no collapse", path.rhythm,
    ].filter(Boolean).join(", ");
  }

  build() {
    const said = [word(this.path.netns), `${this.path.floor} of ${this.path.base ?? "?"}`,
                  this.path.rhythm];
    return super.build("path", this.title, said.filter(Boolean).join(" · "), "value");
  }

  draw() {
    const { ctx, width, height } = prepared(this.canvas);
    const x = scale(width), { path, host } = this;
    const y = (mtu) => height - 3 - (mtu - this.low) / (this.high - this.low) * (height - 6);
    drawGrid(ctx, view, x, height);
    this.drawBands(ctx, x, y, height);
    drawUnknown(ctx, host, view, x, height, true);
    this.drawRoute(ctx, y, width);
    this.drawSteps(ctx, x, y, width);
    marks(this.gutter, [this.top, path.floor].map((mtu) => [String(mtu), y(mtu)]));
  }

  drawBands(ctx, x, y, height) {
    for (const [from, to, floor, , began, ended] of this.path.bands) {
      if (to < view.from || from > view.to) continue;
      const left = x(from), wide = Math.max(1.5, x(to) - left);
      ctx.fillStyle = colours.band;
      ctx.fillRect(left, 0, wide, height);
      ctx.fillStyle = colours.lock;
      ctx.fillRect(left, 0, wide, 2);
      if (began) ctx.fillRect(left, 0, 1, height);
      if (ended) ctx.fillRect(left + wide - 1, 0, 1, height);
      if (wide > 64) {
        ctx.textBaseline = "top";
        const from_ = Math.max(left, 0);
        ctx.fillText(`collapse ${floor}`, from_ + (from_ < 30 ? 34 : 5), 5);
      }
    }
  }

  drawRoute(ctx, y, width) {
    if (this.path.base === null) return;
    ctx.strokeStyle = colours.line;
    ctx.setLineDash([2, 3]);
    ctx.beginPath();
    ctx.moveTo(0, Math.round(y(this.path.base)) + 0.5);
    ctx.lineTo(width, Math.round(y(this.path.base)) + 0.5);
    ctx.stroke();
    ctx.setLineDash([]);
  }

  // Steps from the last one before the view to its end; a gap breaks the line.
  drawSteps(ctx, x, y, width) {
    const { path, host } = this;
    const runs = [];
    let from = path.began;
    for (const [began, ended] of host.gaps) {
      runs.push([from, began]);
      from = ended;
    }
    runs.push([from, host.ended]);
    for (const [began, ended] of runs) {
      if (ended < view.from || began > view.to || ended <= began) continue;
      this.drawRun(ctx, x, y, Math.max(began, view.from - 1), Math.min(ended, view.to + 1));
    }
  }

  drawRun(ctx, x, y, from, to) {
    const { path } = this;
    let at = stepAt(path, from);
    let level = at < 0 ? path.base : path.mtu[at] ?? path.base;
    if (at < 0 && path.standing) level = null;
    let locked = at >= 0 && path.locked[at] === 1 && path.mtu[at] !== null;
    let pen = x(from);
    const line = (ms, next, nextLocked) => {
      const upto = x(ms);
      if (level !== null) {
        ctx.strokeStyle = ctx.fillStyle = locked ? colours.lock : colours.path;
        ctx.fillRect(pen, y(level) - (locked ? 1.25 : 0.75), Math.max(0.75, upto - pen), locked ? 2.5 : 1.5);
        if (next !== null && next !== undefined && next !== level) {
          ctx.fillStyle = colours.path;
          ctx.fillRect(upto - 0.5, Math.min(y(level), y(next)), 1, Math.abs(y(level) - y(next)));
        }
      }
      pen = upto;
      if (next !== undefined) { level = next; locked = nextLocked; }
    };
    for (at += 1; at < path.at.length && path.at[at] <= to; at++) {
      line(path.at[at], path.mtu[at] ?? path.base, path.locked[at] === 1 && path.mtu[at] !== null);
    }
    line(to);
  }

  show(ms) {
    this.value.textContent = ms === null ? "" : pathWords(this.host, this.path, ms);
  }

  table() {
    const rows = [];
    const { path } = this;
    const first = Math.max(0, stepAt(path, view.from));
    for (let at = first; at < path.at.length && path.at[at] <= view.to && rows.length < 500; at++) {
      const mtu = path.mtu[at];
      rows.push([moment(path.at[at], 1), mtu === null ? `none (${path.base ?? "not known"})` : String(mtu),
                 path.locked[at] ? "yes" : "", insides(path, mtu ?? path.base).join(", ")]);
    }
    return { head: ["from", "path MTU", "locked", "leaves"], rows };
  }
}

class DropTrack extends Track {
  constructor(host) {
    super();
    this.host = host;
    this.drops = new Drops(host);
  }

  get title() { return `Drops per second, ${word(this.host.name)}`; }

  get summary() {
    const sums = this.drops.between(whole.from, whole.to);
    const said = this.drops.verdicts.map((name, at) => [name, sums[at]]).filter((one) => one[1] > 0);
    return [this.title, ...said.map(([name, sum]) => `${count(sum)} ${nameOf(name)}`)].join(", ");
  }

  build() {
    const { width } = this.drops;
    const note = width ? `counted in spans of ${width} s` : "as counted, about each second";
    return super.build("drops", "Drops per second", note, "value columns");
  }

  draw() {
    const { ctx, width, height } = prepared(this.canvas);
    const x = scale(width);
    const columns = this.drops.columns(view, Math.max(1, Math.floor(width)), state.hidden);
    const most = columns.reduce((top, one) =>
      Math.max(top, one.peak, one.rates.reduce((sum, rate) => sum + rate, 0)), 0);
    const top = roundUp(most);
    const y = (rate) => height - rate / top * (height - 12);
    drawGrid(ctx, view, x, height);
    columns.forEach(({ rates }, column) => {
      let under = 0;
      rates.forEach((rate, which) => {
        if (!rate) return;
        ctx.fillStyle = colours[kindOf(this.drops.verdicts[which])];
        // Whatever there was shows, at least as a line.
        const high = Math.max(under ? 0.5 : 1, y(under) - y(under + rate));
        ctx.fillRect(column, y(under) - high, 1, high);
        under += rate;
      });
    });
    ctx.fillStyle = colours.ink;
    columns.forEach(({ rates, peak }, column) => {
      const mean = rates.reduce((sum, rate) => sum + rate, 0);
      if (peak > mean * 1.02 + 0.01) ctx.fillRect(column, y(peak) - 0.5, 1, 1);
    });
    drawUnknown(ctx, this.host, view, x, height, false);
    this.drawScale(ctx, y, top, width);
  }

  drawScale(ctx, y, top, width) {
    ctx.strokeStyle = colours.line;
    ctx.setLineDash([2, 3]);
    for (const each of [top / 2, top]) {
      const where = Math.round(y(each)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(0, where);
      ctx.lineTo(width, where);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    marks(this.gutter, [top, top / 2].map((each) => [rate(each), y(each)]));
  }

  // Packets a second in the stretch that one column of pixels stands for.
  at(ms) {
    const each = Math.max(1000, (view.to - view.from) / Math.max(1, this.canvas.clientWidth));
    return this.drops.between(ms - each / 2, ms + each / 2).map((sum) => sum / each * 1000);
  }

  show(ms) {
    this.value.replaceChildren();
    if (ms === null) return;
    if (!mtuAt(this.host, { began: this.host.began, at: [], mtu: [], base: 1, locked: [] }, ms)) {
      this.value.textContent = "not known";
      return;
    }
    this.at(ms).forEach((each, which) => {
      const name = this.drops.verdicts[which];
      if (!each || state.hidden.has(name)) return;
      const entry = element("span", `reading ${kindOf(name)}`);
      entry.append(element("span", "swatch"), `${nameOf(name)} ${rate(each)}/s`);
      this.value.append(entry);
    });
    if (!this.value.childElementCount) this.value.textContent = "none";
  }

  spoken(ms) {
    const said = this.at(ms)
      .map((each, which) => [each, this.drops.verdicts[which]])
      .filter(([each]) => each)
      .map(([each, name]) => `${rate(each)} ${nameOf(name)} per second`);
    return said.length ? said.join(", ") : "no drops";
  }

  table() {
    const rows = [];
    const parts = 24, each = (view.to - view.from) / parts;
    for (let at = 0; at < parts; at++) {
      const from = view.from + at * each;
      const sums = this.drops.between(from, from + each);
      rows.push([moment(from, Math.min(each, 1000)), length(each), ...sums.map(count),
                 rate(this.drops.peak(from, from + each))]);
    }
    const names = this.drops.verdicts.map((name) => nameOf(name));
    return { head: ["from", "for", ...names, "most per second"], rows };
  }
}

function plotOf(track) {
  const plot = element("div", "plot");
  track.canvas = element("canvas");
  track.canvas.setAttribute("role", "img");
  track.canvas.setAttribute("aria-label", track.summary);
  plot.append(track.canvas);
  return plot;
}
