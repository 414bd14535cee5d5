// Times are milliseconds since the beginning of the page's data, unless they are called epoch.

const DATA = JSON.parse(document.getElementById("data").textContent);
const word = (number) => DATA.words[number];
const $ = (id) => document.getElementById(id);

const clock = { local: false };

const two = (number) => String(number).padStart(2, "0");

// The parts of a time, in UTC or as this machine has it.
function parts(ms) {
  const epoch = new Date(DATA.t0 + ms);
  return clock.local
    ? [epoch.getFullYear(), epoch.getMonth() + 1, epoch.getDate(), epoch.getHours(),
       epoch.getMinutes(), epoch.getSeconds(), epoch.getMilliseconds()]
    : [epoch.getUTCFullYear(), epoch.getUTCMonth() + 1, epoch.getUTCDate(), epoch.getUTCHours(),
       epoch.getUTCMinutes(), epoch.getUTCSeconds(), epoch.getUTCMilliseconds()];
}

// A time of day, as exact as steps of that many milliseconds ask for.
function timeOfDay(ms, step) {
  const [, , , hour, minute, second, milli] = parts(ms);
  const long = step < 60000 ? `:${two(second)}` : "";
  const exact = step < 1000 ? `.${String(milli).padStart(3, "0")}` : "";
  return `${two(hour)}:${two(minute)}${long}${exact}`;
}

function date(ms) {
  const [year, month, day] = parts(ms);
  return `${year}-${two(month)}-${two(day)}`;
}

const moment = (ms, step = 1000) => `${date(ms)} ${timeOfDay(ms, step)}`;

function length(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// Groups of three digits, as the tables of the page have them.
const count = (number) => String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, "\u202f");

function rate(number) {
  if (number === 0 || number >= 100) return count(number);
  return number >= 10 ? number.toFixed(1) : number.toPrecision(2);
}

const SECOND = 1000, MINUTE = 60000, HOUR = 3600000, DAY = 86400000;
const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND,
  30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR,
  3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 365 * DAY,
];

// Where an axis has its marks: at round times, so many at most.
function ticks(from, to, most) {
  const step = STEPS.find((each) => (to - from) / each <= most) ?? (to - from) / most;
  const zone = clock.local ? -new Date(DATA.t0 + from).getTimezoneOffset() * MINUTE : 0;
  const shift = DATA.t0 + zone;
  const out = [];
  for (let at = Math.ceil((from + shift) / step) * step - shift; at <= to; at += step) out.push(at);
  return { step, at: out };
}
