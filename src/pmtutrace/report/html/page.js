// The rest of the page: copying, colours, times, paper.

function copy(button) {
  const code = button.parentElement.querySelector("code");
  const done = (said) => {
    button.textContent = said;
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };
  const select = () => {
    getSelection().selectAllChildren(code);
    done("selected");
  };
  if (!navigator.clipboard) select();
  else navigator.clipboard.writeText(code.textContent).then(() => done("copied"), select);
}

function theme(name) {
  if (state.printing) {
    state.theme = name;
    return;
  }
  document.documentElement.dataset.theme = name;
  hatching = null;
  readColours();
  redraw();
}

function tellTimes() {
  for (const each of document.querySelectorAll("time[data-ms]")) {
    each.textContent = moment(Number(each.dataset.ms));
  }
  for (const each of document.querySelectorAll(".zone")) {
    each.textContent = clock.local ? "local time" : "UTC";
  }
  setView(view.from, view.to);
  showFlows();
  fillTable();
}

// Paper is light, and has no "show more".
function paper(begins) {
  state.printing = begins;
  const root = document.documentElement;
  if (begins) {
    state.theme = root.dataset.theme;
    root.dataset.theme = "light";
    state.closed = [...document.querySelectorAll("details.finding:not([open])")];
  } else root.dataset.theme = state.theme;
  for (const each of state.closed) each.open = begins;
  hatching = null;
  readColours();
  drawAll();
}

function showInTimeline(button) {
  const { host, lane, from, to } = button.dataset;
  const room = Math.max(1000, (to - from) * 0.05);
  const track = lane === undefined ? null : DATA.hosts[host].reveal(Number(lane));
  fillTracks();
  setView(from - room, Number(to) + room);
  for (const marked of document.querySelectorAll(".track.marked")) marked.classList.remove("marked");
  if (track) track.row.classList.add("marked");
  $("timeline").scrollIntoView();
  $("cursor").focus({ preventScroll: true });
}

buildTimeline();
buildFlows();

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.classList.contains("copy")) copy(button);
  else if (button.classList.contains("show")) showInTimeline(button);
});
$("theme").addEventListener("change", () => theme($("theme").value));
$("zone").addEventListener("change", () => {
  clock.local = $("zone").value === "local";
  tellTimes();
});
$("print").addEventListener("click", () => print());
window.addEventListener("beforeprint", () => paper(true));
window.addEventListener("afterprint", () => paper(false));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme($("theme").value));
document.documentElement.dataset.ready = "yes";
