// What the user chose, in the address's fragment, so that a link restores it.

const FACETS = {
  model: { title: "Model", of: (g) => [g.first.model] },
  hardware: { title: "Hardware", of: (g) => [g.first.hardware || "not named"] },
  workload: { title: "Workload", of: (g) => [g.workload] },
  engine: { title: "Engine", of: (g) => [g.first.engine] },
  strategy: { title: "Strategy", of: (g) => (g.first.strategies.length ? g.first.strategies : ["none named"]) },
  source: { title: "Source", of: (g) => [g.first.source] },
  study: { title: "Study", of: (g) => [g.first.study || "not named"] },
  status: { title: "Status", of: (g) => [g.status.replaceAll("_", " ")] },
};
const COLOURS = ["engine", "hardware", "model", "strategy", "status"];

const state = {
  objective: { metric: "", direction: "max" },
  preset: "", // name of the published objective that the budgets were taken from
  budgets: [], // {metric, op, value (base units), unit}
  x: "", y: "", logX: false, logY: false,
  colour: "engine",
  filters: {}, // facet -> Set of chosen values; absent: all
  sort: null, // {column, down}
  open: "", // key of the group whose details are shown
  pair: [], // keys of the groups that are compared, at most two
  guide: "", // constraint or symptom of the open guide; closed without one
  guideEngine: "", // only techniques that this engine has a switch for
  board: false, // whether the scoreboard is open
  boardStrategy: "", // only trials of this one
  boardSort: null, // {column, down}
};

const BUDGET = /^(.+?)(<|≤|>|≥)(-?[\d.eE+-]+)~(.*)$/;

function stateToHash() {
  const q = new URLSearchParams();
  q.set("max" === state.objective.direction ? "max" : "min", state.objective.metric);
  for (const b of state.budgets) q.append("b", `${b.metric}${b.op}${b.value}~${b.unit}`);
  if (state.preset) q.set("preset", state.preset);
  q.set("x", state.x);
  q.set("y", state.y);
  q.set("log", (state.logX ? "x" : "") + (state.logY ? "y" : ""));
  q.set("colour", state.colour);
  for (const [facet, chosen] of Object.entries(state.filters)) {
    if (!chosen.size) q.append(`f.${facet}`, "");
    for (const value of chosen) q.append(`f.${facet}`, value);
  }
  if (state.sort) q.set("sort", (state.sort.down ? "-" : "") + state.sort.column);
  if (state.open) q.set("open", state.open);
  for (const key of state.pair) q.append("pair", key);
  if (state.guide) q.set("guide", state.guide);
  if (state.guide && state.guideEngine) q.set("guide.engine", state.guideEngine);
  if (state.board) q.set("board", "open");
  if (state.board && state.boardStrategy) q.set("board.strategy", state.boardStrategy);
  if (state.board && state.boardSort) q.set("board.sort", (state.boardSort.down ? "-" : "") + state.boardSort.column);
  return q.toString();
}

function stateFromHash(text, metrics) {
  const q = new URLSearchParams(text);
  const metric = (name, old) => (metrics.includes(q.get(name)) ? q.get(name) : old);
  for (const direction of ["max", "min"]) {
    if (metrics.includes(q.get(direction))) {
      state.objective = { metric: q.get(direction), direction };
    }
  }
  state.budgets = q.getAll("b").map(readBudget).filter((b) => b && metrics.includes(b.metric));
  state.preset = q.get("preset") || "";
  state.x = metric("x", state.x);
  state.y = metric("y", state.y);
  state.logX = (q.get("log") || "").includes("x");
  state.logY = (q.get("log") || "").includes("y");
  if (COLOURS.includes(q.get("colour"))) state.colour = q.get("colour");
  state.filters = {};
  for (const facet of Object.keys(FACETS)) {
    const chosen = q.getAll(`f.${facet}`).filter((v) => v !== "");
    if (q.has(`f.${facet}`)) state.filters[facet] = new Set(chosen);
  }
  const sort = q.get("sort");
  state.sort = sort ? { column: sort.replace(/^-/, ""), down: sort.startsWith("-") } : null;
  state.open = q.get("open") || "";
  state.pair = q.getAll("pair").slice(0, 2);
  const { questions, engines } = settings.guide;
  state.guide = questions.some((question) => question.text === q.get("guide")) ? q.get("guide") : "";
  state.guideEngine = engines.includes(q.get("guide.engine")) ? q.get("guide.engine") : "";
  boardFromHash(q);
}

function boardFromHash(q) {
  const tried = settings.scoreboard;
  state.board = tried.length > 0 && q.get("board") === "open";
  state.boardStrategy = tried.some((row) => row.strategy === q.get("board.strategy")) ? q.get("board.strategy") : "";
  const sort = q.get("board.sort") || "";
  const column = sort.replace(/^-/, "");
  state.boardSort = BOARD_COLUMNS.some((c) => c.id === column) ? { column, down: sort.startsWith("-") } : null;
}

// The budgets of a preset whose metrics the points have, in units that people write.
function presetBudgets(preset, metrics) {
  return preset.budgets.filter((b) => metrics.includes(b.metric)).map((b) => {
    const unit = metricInfo(b.metric).unit;
    return { ...b, unit: unit === "s" && b.value < 1 ? "ms" : unit };
  });
}

// The chosen preset, while the budgets are still those that it set.
function activePreset(presets, metrics) {
  const preset = presets.find((p) => p.name === state.preset);
  if (!preset) return null;
  const bare = (list) => stable(list.map((b) => [b.metric, b.op, b.value]));
  return bare(presetBudgets(preset, metrics)) === bare(state.budgets) ? preset : null;
}

function readBudget(text) {
  const match = BUDGET.exec(text);
  if (!match || !Number.isFinite(Number(match[3]))) return null;
  const units = unitsOf(metricInfo(match[1]));
  const unit = Object.hasOwn(units, match[4]) ? match[4] : Object.keys(units)[0];
  return { metric: match[1], op: match[2], value: Number(match[3]), unit };
}

// A first view that says something: one model and workload (many points, several engines), and a
// budget at a round median.
function defaultState(groups, metrics) {
  const pick = (names, fallback) => names.find((n) => metrics.includes(n)) || fallback;
  const ttft = metrics.find((m) => m.startsWith("ttft"));
  state.y = pick(["output_throughput_per_gpu", "output_throughput", "tokens_per_second", "goodput"], metrics[0] || "");
  state.x = pick(["ttft:p95", "ttft:mean"], ttft || metrics[1] || metrics[0] || "");
  state.objective = { metric: state.y, direction: metricInfo(state.y).better };
  state.logX = metricInfo(state.x).unit === "s";
  state.filters = {};
  for (const facet of ["model", "workload"]) {
    const top = mostFrequent(shownGroups(groups), FACETS[facet].of);
    if (top.share < 1) state.filters[facet] = new Set([top.value]);
  }
  const values = shownGroups(groups).map((g) => g.values[state.x]).filter((v) => v > 0);
  values.sort((a, b) => a - b);
  if (!values.length || metricInfo(state.x).better !== "min") return;
  const value = Number(values[values.length >> 1].toPrecision(1));
  const unit = metricInfo(state.x).unit === "s" && value < 1 ? "ms" : metricInfo(state.x).unit;
  state.budgets = [{ metric: state.x, op: "<", value, unit }];
}

function mostFrequent(groups, of) {
  const found = new Map();
  for (const g of groups) {
    for (const v of of(g)) found.set(v, [...(found.get(v) || []), g.first.engine]);
  }
  const score = (engines) => engines.length * new Set(engines).size ** 2;
  const order = [...found].sort((a, b) => score(b[1]) - score(a[1]) || (a[0] < b[0] ? -1 : 1));
  const [value, engines] = order[0] || ["", []];
  return { value, share: groups.length ? engines.length / groups.length : 1 };
}

function passes(g, except) {
  return Object.entries(state.filters).every(
    ([facet, chosen]) => facet === except || FACETS[facet].of(g).some((v) => chosen.has(v)),
  );
}

const shownGroups = (groups) => groups.filter((g) => passes(g, null));
