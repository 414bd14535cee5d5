// The table of flows: sorted and filtered by columns of numbers, shown a hundred rows at a time.

const FLOWS = DATA.flows.columns;
const ROWS = (FLOWS.packets ?? []).length;
const PAGE = 100;
const WORDED = ["netns", "proto", "saddr", "daddr", "through", "site", "verdict", "cause"];
const table = { order: new Uint32Array(0), page: 0, by: "packets", down: true };

const ends = (address, port) =>
  port === null ? address : address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

// Name of the column, what it is sorted by, what is in a cell, and how that is set.
const COLUMNS = [
  ["Host", ["host"], (row) => word(DATA.hosts[FLOWS.host[row]].name), ""],
  ["Namespace", ["netns"], (row) => word(FLOWS.netns[row]), ""],
  ["Protocol", ["proto"], (row) => word(FLOWS.proto[row]), ""],
  ["From", ["saddr", "sport"], (row) => ends(word(FLOWS.saddr[row]), FLOWS.sport[row]), "code"],
  ["To", ["daddr", "dport"], (row) => ends(word(FLOWS.daddr[row]), FLOWS.dport[row]), "code"],
  ["Through", ["through"], (row) => word(FLOWS.through[row]), ""],
  ["Verdict", ["verdict", "cause"], verdictCell, ""],
  ["Site", ["site"], (row) => word(FLOWS.site[row]), ""],
  ["Packets", ["packets"], (row) => count(FLOWS.packets[row]), "number"],
  ["Longest", ["longest"], (row) => FLOWS.longest[row] || "", "number"],
  ["MTU", ["mtu"], (row) => FLOWS.mtu[row] || "", "number"],
  ["First", ["first"], (row) => timeCell(FLOWS.first[row]), "number"],
  ["Last", ["last"], (row) => timeCell(FLOWS.last[row]), "number"],
].slice(DATA.hosts.length > 1 ? 0 : 1);
const ID = (column) => column[1][0];

function verdictCell(row) {
  const name = word(FLOWS.verdict[row]), cause = word(FLOWS.cause[row]);
  const made = document.createDocumentFragment();
  made.append(element("span", `swatch ${kindOf(name)}`),
              nameOf(name));
  if (cause) made.append(element("span", "note", ` ${cause}`));
  return made;
}

const timeCell = (ms) => (DATA.span > DAY ? moment(ms).slice(5) : timeOfDay(ms, 1000));

// The place of each word among all of them, addresses by their numbers.
let places = null;

function placesOfWords() {
  if (!places) {
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    const sorted = DATA.words.map((_, at) => at).sort((a, b) => compare(DATA.words[a], DATA.words[b]));
    places = new Uint32Array(sorted.length);
    sorted.forEach((at, place) => { places[at] = place; });
  }
  return places;
}

function sortRows(rows) {
  const found = COLUMNS.find((column) => ID(column) === table.by);
  const keys = found[1].map((name) => {
    const values = FLOWS[name];
    if (!WORDED.includes(name)) return values.map((value) => value ?? -1);
    const at = placesOfWords();
    return values.map((value) => at[value]);
  });
  const way = table.down ? -1 : 1;
  return rows.sort((a, b) => {
    for (const values of keys) if (values[a] !== values[b]) return (values[a] - values[b]) * way;
    return a - b;
  });
}

// Rows that have every one of the words somewhere, and all else that is asked for.
function matching() {
  const terms = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const lower = DATA.words.map((text) => text.toLowerCase());
  const hits = terms.map((term) => Uint8Array.from(lower, (text) => Number(text.includes(term))));
  const verdict = $("verdict").value, host = $("host")?.value ?? "";
  const within = $("within").checked;
  const out = [];
  for (let row = 0; row < ROWS; row++) {
    if (verdict && word(FLOWS.verdict[row]) !== verdict) continue;
    if (host && FLOWS.host[row] !== Number(host)) continue;
    if (within && (FLOWS.last[row] < view.from || FLOWS.first[row] > view.to)) continue;
    const has = (hit, at) =>
      WORDED.some((name) => hit[FLOWS[name][row]])
      || hit[DATA.hosts[FLOWS.host[row]].name]
      || String(FLOWS.sport[row]) === terms[at] || String(FLOWS.dport[row]) === terms[at];
    if (hits.every(has)) out.push(row);
  }
  return out;
}

function fillFlows() {
  table.order = sortRows(matching());
  table.page = 0;
  showFlows();
}

function showFlows() {
  const from = table.page * PAGE, body = $("flow-rows");
  body.replaceChildren();
  for (const row of table.order.slice(from, from + PAGE)) {
    const line = body.insertRow();
    for (const [, , cell, words] of COLUMNS) {
      const made = line.insertCell();
      made.className = words;
      const inside = element("bdi");
      inside.append(cell(row));
      made.append(inside);
    }
  }
  const many = table.order.length, last = Math.min(from + PAGE, many);
  const packets = table.order.reduce((sum, row) => sum + FLOWS.packets[row], 0);
  const shown = many ? `${count(from + 1)}–${count(last)} of ` : "";
  const all = many < ROWS ? ` of ${count(ROWS)}` : "";
  const rows = many === 1 ? "row" : "rows";
  $("flow-count").textContent = `${shown}${count(many)}${many < ROWS ? "" : ` ${rows}`}`
    + `${all ? `${all} rows` : ""}, ${count(packets)} packets`;
  $("flows-before").disabled = table.page === 0;
  $("flows-after").disabled = last >= many;
  for (const head of $("flow-head").cells) {
    const mine = head.dataset.by === table.by;
    head.setAttribute("aria-sort", mine ? (table.down ? "descending" : "ascending") : "none");
  }
}

function later(work, ms) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

function buildFlows() {
  for (const column of COLUMNS) {
    const head = element("th", column[3]);
    head.scope = "col";
    head.dataset.by = ID(column);
    const button = element("button", "", column[0]);
    button.type = "button";
    button.addEventListener("click", () => {
      const numbers = column[3] === "number";
      table.down = table.by === ID(column) ? !table.down : numbers;
      table.by = ID(column);
      table.order = sortRows(table.order);
      table.page = 0;
      showFlows();
    });
    head.append(button);
    $("flow-head").append(head);
  }
  $("search").addEventListener("input", later(fillFlows, 120));
  for (const name of ["verdict", "host", "within"]) $(name)?.addEventListener("change", fillFlows);
  const again = later(() => { if ($("within").checked) fillFlows(); }, 200);
  state.listeners.push(again);
  const turn = (by) => () => {
    table.page += by;
    showFlows();
  };
  $("flows-before").addEventListener("click", turn(-1));
  $("flows-after").addEventListener("click", turn(1));
  fillFlows();
}
