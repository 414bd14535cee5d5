// Drawing: a canvas for each track, and what they share.

// A recording that somebody has made up may have any verdict: those are of one kind.
const kindOf = (verdict) => (DATA.verdicts.includes(verdict) ? verdict : "other");
const nameOf = (verdict) => (kindOf(verdict) === "other" ? verdict : verdict.replace("_", " "));
let colours = {};

// Colours are those of the style, so that dark, light and paper differ in one place.
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "muted", "line", "faint", "panel", "path", "band", "lock", "hatch",
                 ...DATA.verdicts, "other"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Fit a canvas to its place; return its context, in units of the page, and its size.
function prepared(canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const dense = Math.max(window.devicePixelRatio || 1, 1);
  const wide = Math.round(width * dense), high = Math.round(height * dense);
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(dense, 0, 0, dense, 0, 0);
  ctx.clearRect(0, 0, width, height);
  ctx.font = "11px system-ui, sans-serif";
  return { ctx, width, height };
}

// The first index whose value is greater, in rising values.
function above(values, value) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

let hatching = null;

function hatch(ctx) {
  if (!hatching) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colours.hatch;
    pen.lineWidth = 1;
    for (const shift of [-6, 0, 6]) {
      pen.beginPath();
      pen.moveTo(shift, 6);
      pen.lineTo(shift + 6, 0);
      pen.stroke();
    }
    hatching = ctx.createPattern(tile, "repeat");
  }
  return hatching;
}

// Draw where nobody looked: hatched, since nothing is known of it.
function drawUnknown(ctx, host, view, x, height, label) {
  const edges = [[-Infinity, host.began], ...host.gaps, [host.ended, Infinity]];
  for (const [from, to] of edges) {
    if (to <= view.from || from >= view.to) continue;
    const left = x(Math.max(from, view.from)), right = x(Math.min(to, view.to));
    ctx.fillStyle = colours.panel;
    ctx.fillRect(left, 0, Math.max(1, right - left), height);
    ctx.fillStyle = hatch(ctx);
    ctx.fillRect(left, 0, Math.max(1, right - left), height);
    if (label && right - left > 90) {
      const said = Number.isFinite(from) && Number.isFinite(to) ? "nobody looked" : "not recorded";
      const wide = ctx.measureText(said).width;
      ctx.fillStyle = colours.panel;
      ctx.fillRect((left + right - wide) / 2 - 3, height / 2 - 8, wide + 6, 16);
      ctx.fillStyle = colours.muted;
      ctx.textAlign = "center";
      ctx.textBaseline = "middle";
      ctx.fillText(said, (left + right) / 2, height / 2);
      ctx.textAlign = "left";
    }
  }
}

function drawGrid(ctx, view, x, height) {
  ctx.strokeStyle = colours.faint;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (const at of view.ticks.at) {
    const where = Math.round(x(at)) + 0.5;
    ctx.moveTo(where, 0);
    ctx.lineTo(where, height);
  }
  ctx.stroke();
}

// Sums over time, so that the packets of any stretch are known at once, however long it is.
class Drops {
  constructor(host) {
    const given = host.drops;
    const size = given.after.length;
    this.began = new Float64Array(size);
    this.ended = new Float64Array(size);
    this.width = given.width;
    for (let at = 0, now = 0; at < size; at++) {
      now += given.after[at];
      this.began[at] = now;
      this.ended[at] = now + given.long[at];
    }
    this.verdicts = DATA.verdicts.concat(given.verdicts.filter((v) => !DATA.verdicts.includes(v)));
    this.sums = this.verdicts.map((name) => {
      const each = given.packets[given.verdicts.indexOf(name)];
      const sums = new Float64Array(size + 1);
      if (each) for (let at = 0; at < size; at++) sums[at + 1] = sums[at] + each[at];
      return sums;
    });
    this.peaks = new Float64Array(size);
    for (let at = 0; at < size; at++) {
      const all = this.sums.reduce((sum, one) => sum + one[at + 1] - one[at], 0);
      const seconds = Math.max(1, (this.ended[at] - this.began[at]) / 1000);
      this.peaks[at] = given.peak ? given.peak[at] : all / seconds;
    }
  }

  // How many packets with a verdict there were up to a time.
  upTo(which, ms) {
    const at = above(this.began, ms) - 1;
    if (at < 0) return 0;
    const sums = this.sums[which];
    const share = Math.min(1, (ms - this.began[at]) / (this.ended[at] - this.began[at]));
    return sums[at] + (sums[at + 1] - sums[at]) * share;
  }

  between(from, to) {
    return this.verdicts.map((_, which) => this.upTo(which, to) - this.upTo(which, from));
  }

  // The most packets a second, of any look at the counters within a time.
  peak(from, to) {
    let most = 0;
    for (let at = Math.max(0, above(this.began, from) - 1); at < this.began.length; at++) {
      if (this.began[at] >= to) break;
      if (this.ended[at] > from && this.peaks[at] > most) most = this.peaks[at];
    }
    return most;
  }

  // For each column of pixels: packets a second by verdict, and the most a second.
  columns(view, width, hidden) {
    const out = [];
    const each = (view.to - view.from) / width;
    const shown = this.verdicts.map((name) => !hidden.has(name));
    let before = this.between(view.from, view.from).map((_, which) => this.upTo(which, view.from));
    for (let column = 0; column < width; column++) {
      const from = view.from + column * each, to = from + each;
      const now = before.map((_, which) => this.upTo(which, to));
      const rates = now.map((sum, which) =>
        shown[which] ? Math.max(0, sum - before[which]) / each * 1000 : 0);
      out.push({ rates, peak: hidden.size ? 0 : this.peak(from, to) });
      before = now;
    }
    return out;
  }
}

// A round number that is at least this one: 1, 2 or 5 times a power of ten.
function roundUp(number) {
  if (!(number > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map((times) => times * power).find((each) => each >= number * 0.999);
}
