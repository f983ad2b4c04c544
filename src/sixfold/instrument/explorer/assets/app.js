// Starts the page, and redraws it when something changes.

const app = { points: [], groups: [], metrics: [], limit: PAGE, drawn: [], cursor: -1, colours: new Map() };

function setPoints(points) {
  app.points = points;
  app.groups = groupPoints(points);
  app.metrics = metricsOf(app.groups);
}

const colourValue = (g) => FACETS[state.colour].of(g).join(" + ");

// Colours go by frequency over all points, so that filters do not change them; where there are more
// values than colours, over those shown.
function colourMap() {
  const counts = new Map();
  const count = (g) => counts.set(colourValue(g), (counts.get(colourValue(g)) || 0) + 1);
  app.groups.forEach(count);
  if (counts.size > 8) {
    counts.clear();
    app.shown.forEach(count);
  }
  const order = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || a.localeCompare(b));
  return new Map(order.map((value, i) => [value, i < 8 ? `var(--c${i})` : "var(--other)"]));
}

function legendColours(shown) {
  const here = new Set(shown.map(colourValue));
  return [...app.colours].filter(([value]) => here.has(value));
}

function drawLegend(colours) {
  const named = colours.filter(([, c]) => c !== "var(--other)");
  const items = named.map(([value, colour]) => legendItem(value, colour));
  if (colours.length > named.length) items.push(legendItem(`${colours.length - named.length} others`, "var(--other)"));
  $("legend").replaceChildren(...items);
}

function legendItem(text, colour) {
  const mark = el("span", { className: "mark" });
  mark.style.setProperty("--c", colour);
  return el("span", {}, mark, text);
}

// With `quiet`, what the user is writing in and what a screen reader has read out stays as it is.
function redraw(quiet) {
  const writing = quiet && Boolean(document.activeElement && document.activeElement.closest("#clauses, #axes"));
  const active = document.activeElement && document.activeElement.id;
  const shown = shownGroups(app.groups);
  const best = bestOf(shown, state.budgets, state.objective);
  if ($("sentence").textContent !== `${sentence()}.`) $("sentence").textContent = `${sentence()}.`;
  if (!writing) {
    drawClauses(app.metrics, changed);
    drawAxesControls(app.metrics, changed);
  }
  drawFacets(app.groups, changed);
  drawGuide();
  drawBoard();
  const told = best ? `${best.key} ${best.points.length}` : `none of ${shown.length}`;
  if (!quiet || told !== app.told) drawBest(best, shown, actions);
  app.told = told;
  drawPrices(shown);
  drawPair(app.groups, actions);
  drawDetails(app.groups.find((g) => g.key === state.open), actions);
  drawTable(shown, app.limit, actions);
  const fit = shown.filter((g) => feasible(g, state.budgets)).length;
  const n = (v) => v.toLocaleString("en-US");
  $("count").textContent = `${n(shown.length)} of ${n(app.groups.length)} configurations shown, ${n(fit)} meet the budgets`;
  app.shown = shown;
  app.best = best;
  redrawChart();
  if (active && active !== "chart" && $(active) && document.activeElement !== $(active)) $(active).focus();
}

function redrawChart() {
  app.colours = colourMap();
  const colours = new Map(legendColours(app.shown));
  drawLegend([...colours]);
  const { drawn, failures } = drawChart($("chart"), {
    groups: app.shown, budgets: state.budgets, best: app.best, open: state.open, pair: state.pair,
    x: metricInfo(state.x), y: metricInfo(state.y), logX: state.logX, logY: state.logY,
    colourOf: (g) => colours.get(colourValue(g)),
  });
  app.drawn = [...drawn, ...failures];
  const empty = !app.drawn.length;
  $("chart").classList.toggle("hidden", empty);
  $("empty").hidden = !empty;
  $("empty").textContent = app.shown.length ? "The shown points have no values on these axes." : "No point passes the filters.";
  $("chart").setAttribute("aria-label", `${metricInfo(state.y).words} against ${metricInfo(state.x).words}, ${app.drawn.length} points`);
}

function changed() {
  app.limit = PAGE;
  remember();
  redraw();
}

function remember() {
  const hash = stateToHash();
  app.hash = hash;
  history.replaceState(null, "", `#${hash}`);
}

const actions = {
  open(key) {
    state.open = key;
    remember();
    redraw();
    if (!key) return;
    $("details").focus({ preventScroll: true });
    $("details").scrollIntoView({ block: "nearest", behavior: "smooth" });
  },
  pair(key) {
    if (!key) state.pair = [];
    else if (state.pair.includes(key)) state.pair = state.pair.filter((k) => k !== key);
    else state.pair = [...state.pair, key].slice(-2);
    remember();
    redraw();
  },
  sort(sort) {
    state.sort = sort;
    changed();
  },
  more() {
    app.limit += 200;
    redraw();
  },
};

function message(text, bad, command) {
  $("message").hidden = !text;
  $("message").replaceChildren(text, ...(command ? [" ", el("code", { text: command })] : []));
  $("message").classList.toggle("bad", Boolean(bad));
}

async function addFiles(files) {
  const known = new Set(app.points.map((p) => p.id));
  const added = [];
  try {
    for (const file of files) {
      if (file.size > MAX_BYTES) throw new Error(`${file.name} is larger than ${MAX_BYTES >> 20} MiB.`);
      for (const p of parsePoints(await file.text(), file.name)) {
        if (!known.has(p.id)) added.push(filled(p));
        known.add(p.id);
      }
    }
  } catch (error) {
    message(`Nothing was added. ${error.message}`, true, error.command);
    return;
  }
  const first = !app.points.length;
  setPoints([...app.points, ...added]);
  if (first) defaultState(app.groups, app.metrics);
  else for (const facet of Object.keys(state.filters)) admit(facet, added);
  message(added.length ? `Added ${added.length} ${added.length === 1 ? "point" : "points"}.` : "Those points are here already; nothing was added.");
  changed();
}

// What was just added passes the filters.
function admit(facet, added) {
  const ids = new Set(added.map((p) => p.id));
  for (const g of app.groups.filter((group) => group.points.some((p) => ids.has(p.id)))) {
    for (const value of FACETS[facet].of(g)) state.filters[facet].add(value);
  }
}

function walk(event) {
  if (!app.drawn.length) return;
  const last = app.drawn.length - 1;
  const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  if (step) app.cursor = Math.max(0, Math.min(last, app.cursor + step));
  else if (event.key === "Home") app.cursor = 0;
  else if (event.key === "End") app.cursor = last;
  else if (event.key === "Enter" && app.drawn[app.cursor]) return actions.open(app.drawn[app.cursor].key);
  else return;
  event.preventDefault();
  const g = app.drawn[app.cursor];
  for (const node of $("chart").querySelectorAll(".cursor")) node.classList.remove("cursor");
  const node = [...$("chart").querySelectorAll("[data-key]")].find((n) => n.dataset.key === g.key);
  if (node) node.classList.add("cursor");
  const value = (name) => `${metricInfo(name).words} ${formatValue(g.values[name], metricInfo(name))}`;
  $("spoken").textContent = [nameOf(g), loadText(g.first), value(state.x), value(state.y), feasible(g, state.budgets) ? "meets the budgets" : "does not meet the budgets"].join(", ");
  showTip(g, node);
}

function showTip(g, node) {
  let tip = $("tip");
  if (!tip) document.body.append((tip = el("div", { id: "tip", "aria-hidden": "true" })));
  tip.hidden = !g;
  if (!g || !node) return;
  const value = (name) => el("div", { text: `${metricInfo(name).words}: ${formatValue(g.values[name], metricInfo(name))}` });
  tip.replaceChildren(el("strong", { text: `${nameOf(g)} · ${g.first.hardware}` }), value(state.y), value(state.x),
    el("div", { className: "quiet", text: [loadText(g.first), shortConfig(g.first)].filter(Boolean).join(" · ") }));
  const at = node.getBoundingClientRect();
  const left = Math.min(at.right + 10, window.innerWidth - tip.offsetWidth - 10);
  tip.style.left = `${Math.max(6, left)}px`;
  tip.style.top = `${Math.max(6, at.top - tip.offsetHeight - 6)}px`;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", String(theme === "dark"));
}

function listen() {
  const groupAt = (event) => {
    const node = event.target.closest && event.target.closest("[data-key]");
    return node ? [app.groups.find((g) => g.key === node.dataset.key), node] : [null, null];
  };
  $("chart").addEventListener("click", (event) => groupAt(event)[0] && actions.open(groupAt(event)[0].key));
  $("chart").addEventListener("mouseover", (event) => showTip(...groupAt(event)));
  $("chart").addEventListener("mouseleave", () => showTip(null, null));
  $("chart").addEventListener("keydown", walk);
  $("chart").addEventListener("blur", () => showTip(null, null));
  $("add").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", async () => {
    await addFiles([...$("files").files]);
    $("files").value = "";
  });
  const raw = () => app.shown.flatMap((g) => g.points);
  $("save-json").addEventListener("click", () => download("points.json", "application/json", JSON.stringify(raw(), null, 1)));
  $("save-csv").addEventListener("click", () => download("points.csv", "text/csv", csvOf(raw())));
  $("guide").addEventListener("toggle", toggleGuide);
  $("board").addEventListener("toggle", toggleBoard);
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("table").focus();
    $("table").scrollIntoView();
  });
  $("reset").addEventListener("click", () => {
    state.filters = {};
    changed();
  });
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  setTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  window.addEventListener("hashchange", restore);
  listenForDrops();
  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs($("chart").parentElement.clientWidth - width) < 2) return;
    width = $("chart").parentElement.clientWidth;
    redrawChart();
  }).observe($("chart").parentElement);
}

function listenForDrops() {
  let depth = 0;
  const show = (by) => {
    depth = Math.max(0, depth + by);
    $("drop").hidden = !depth;
  };
  const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  document.addEventListener("dragenter", (event) => holdsFiles(event) && show(1));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && show(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    show(-depth);
    if (event.dataTransfer && event.dataTransfer.files.length) addFiles([...event.dataTransfer.files]);
  });
}

function restore() {
  const hash = location.hash.slice(1);
  if (hash === app.hash) return;
  if (hash.includes("=")) stateFromHash(hash, app.metrics);
  redraw();
}

function start() {
  defaultState(app.groups, app.metrics);
  if (app.asked.includes("=")) stateFromHash(app.asked, app.metrics);
}

setPoints(JSON.parse($("points").textContent).map(filled));
app.asked = location.hash.slice(1);
app.shown = [];
start();
redraw();
listen();
if (settings.live_after !== null) follow(settings.live_after);
