// Points, metrics, budgets: pure functions. Not here: the page.

const STATUSES = ["ok", "did_not_start", "out_of_memory", "timed_out", "failed"];
const SOURCES = ["measured", "published", "imported"];
const TEXTS = ["study", "origin", "reason", "engine_version", "hardware", "command", "commit"];
const MAX_BYTES = 256 * 1024 * 1024;
// What only this tool's results have, as `sixfold import` knows them.
const FOREIGN = [
  ["llm-optimizer", (d) => Array.isArray(d.test_results) || has(d.config, "client_args") || has(d.config, "server_args")],
  ["vllm bench", (d) => has(d, "model_id") && has(d, "completed") && has(d, "request_throughput")],
  ["sglang.bench_serving", (d) => has(d, "backend") && has(d, "mean_e2e_latency_ms") && has(d, "completed")],
  ["GuideLLM", (d) => Array.isArray(d.benchmarks) && d.benchmarks.length > 0 && has(d.benchmarks[0], "metrics")],
  ["AIPerf", (d) => has(d, "aiperf_version") || has(d, "input_config")],
  ["inference-perf", (d) => has(d, "load_summary") && has(d, "successes")],
];
const has = (value, name) => typeof value === "object" && value !== null && Object.hasOwn(value, name);
// Metrics that core/metric_names does not have: other tools', and what was seen beside the load.
const KINDS = [
  // [pattern on the name, unit, direction, words]
  [/^(seconds|duration)$/, "s", "min", "duration"],
  [/^tokens_per_second$/, "tok/s", "max", "output throughput"],
  [/^output_throughput_per_gpu$/, "tok/s", "max", "output throughput per GPU"],
  [/^tokens_per_second_per_user$/, "tok/s", "max", "speed per user"],
  [/_tokens_per_second$/, "tok/s", "max", ""],
  [/^requests_per_second$/, "req/s", "max", ""],
  [/(cost|price|dollars)/, "$", "min", ""],
  [/(error|failed|failure|preempt|missed|rejections|waiting|foreign)/, "", "min", ""],
  [/(_seconds|latency|_time)$/, "s", "min", ""],
  [/(bytes|memory)/, "B", "min", ""],
];
const WORDS = { ttft: "TTFT", tpot: "TPOT", itl: "ITL", e2e: "E2E latency", queue: "queue time" };
// Numbers of a point beside its values, in the order of the lists; `better` is for what has no metric.
const BESIDE = {
  load: { better: "max", words: "" },
  config: { better: "min", words: " (setting)" },
  workload: { better: "min", words: "" },
  telemetry: { better: "max", words: " (telemetry)" },
};
const besideOf = (name) => name.slice(0, Math.max(0, name.indexOf(".")));
const isValue = (name) => !Object.hasOwn(BESIDE, besideOf(name));

// Units and directions are those of core/metric_names, which the page is given.
function metricInfo(name) {
  const beside = isValue(name) ? "" : besideOf(name);
  const inner = beside ? name.slice(beside.length + 1) : name;
  const [path, ...rest] = beside ? [inner] : inner.split(":");
  const [base, slo] = [path.slice(path.lastIndexOf("/") + 1), path.slice(0, path.lastIndexOf("/") + 1)];
  const known = beside && beside !== "telemetry" ? null
    : settings.metrics.find((m) => m.name === (beside ? name : base));
  const kind = known || (beside && beside !== "telemetry") ? null : KINDS.find(([pattern]) => pattern.test(base));
  const plain = (Object.hasOwn(WORDS, base) && WORDS[base]) || (kind && kind[3]) || base.replace(/^config\./, "").replaceAll("_", " ");
  const words = slo.replace("/", " ") + plain + (beside ? BESIDE[beside].words : "");
  const stat = rest.join(":");
  return {
    name,
    words: stat ? `${words} ${stat}` : words,
    unit: known ? known.unit : kind ? kind[1] : "",
    better: known ? known.better : kind ? kind[2] : beside ? BESIDE[beside].better : "max",
  };
}

function formatNumber(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

function formatValue(value, info) {
  if (value === undefined || value === null || !Number.isFinite(value)) return "–";
  if (info.unit === "s") {
    if (Math.abs(value) < 1) return `${formatNumber(value * 1000)} ms`;
    return `${formatNumber(value)} s`;
  }
  if (info.unit === "$") return `$${formatNumber(value)}`;
  return formatNumber(value) + (info.unit ? ` ${info.unit}` : "");
}

const UNITS = { s: { ms: 1e-3, s: 1, min: 60 }, "": { "": 1, "%": 0.01 } };
const unitsOf = (info) => UNITS[info.unit] || { [info.unit]: 1 };

// What is wrong with a value that should be a point, or "" if it is one.
function pointError(p) {
  if (typeof p !== "object" || p === null || Array.isArray(p)) return "is no object";
  for (const field of ["id", "engine", "model", "date"]) {
    if (typeof p[field] !== "string" || !p[field]) return `has no text in “${field}”`;
  }
  if (p.status !== undefined && !STATUSES.includes(p.status)) return "has an unknown “status”";
  if (p.source !== undefined && !SOURCES.includes(p.source)) return "has an unknown “source”";
  if (p.format !== undefined && p.format !== 1) return `has format ${p.format}; this page reads 1`;
  for (const field of ["values", "config", "workload", "load", "client", "versions", "telemetry", "fingerprint"]) {
    const value = p[field];
    if (value !== undefined && (typeof value !== "object" || value === null || Array.isArray(value))) {
      return `has no object in “${field}”`;
    }
  }
  const wrong = Object.entries(p.values || {}).find(([, v]) => !Number.isFinite(v));
  if (wrong) return `has no number in the value “${wrong[0]}”`;
  for (const field of TEXTS) {
    if (p[field] !== undefined && typeof p[field] !== "string") return `has no text in “${field}”`;
  }
  const names = p.strategies ?? [];
  if (!Array.isArray(names) || names.some((s) => typeof s !== "string")) return "has no list of strategies";
  return "";
}

// Points of a dropped file's text. Throws an Error that names the place.
function parsePoints(text, name) {
  const trimmed = text.trim();
  if (!trimmed) throw new Error(`${name} is empty.`);
  let items;
  if (trimmed.startsWith("[")) {
    try {
      items = JSON.parse(trimmed).map((item, i) => [item, `item ${i + 1}`]);
    } catch (error) {
      throw foreignText(trimmed, name) || importHint(`${name} is no JSON: ${error.message}.`, name);
    }
  } else {
    const whole = wholeObject(trimmed);
    items = whole ? [[whole, "its one object"]] : parseLines(text, name);
  }
  return items.map(([item, where]) => {
    const wrong = pointError(item);
    if (wrong) throw foreign(item, name) || importHint(`${name}, ${where}: the point ${wrong}.`, name);
    return item;
  });
}

// This page reads points only; other tools' results become points by a command.
function importHint(text, name) {
  const file = /^[\w.][\w.-]*$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
  const command = `sixfold import ${file} --store results.db && sixfold explore results.db -o explorer.html`;
  return Object.assign(new Error(`${text} Another tool’s results? This command takes them in:`), { command });
}

function foreign(item, name) {
  const found = typeof item === "object" && item !== null && FOREIGN.find(([, sign]) => sign(item));
  if (!found) return null;
  return importHint(`${name} is a result of ${found[0]}; this page reads points only.`, name);
}

// Some tools write NaN and Infinity, which are no JSON: enough to know whose text it is.
function foreignText(text, name) {
  try {
    const found = JSON.parse(text.replace(/([:[,]\s*)-?(?:Infinity|NaN)(?=\s*[,}\]])/g, "$1null"));
    return foreign(Array.isArray(found) ? found[0] : found, name);
  } catch {
    return null;
  }
}

// A text that is one object on several lines, as other tools write their results; else null.
function wholeObject(text) {
  if (!text.startsWith("{") || !text.includes("\n")) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function parseLines(text, name) {
  const lines = text.split("\n");
  const items = [];
  lines.forEach((line, i) => {
    if (!line.trim()) return;
    try {
      items.push([JSON.parse(line), `line ${i + 1}`]);
    } catch (error) {
      if (i === lines.length - 1 && items.length) return; // still being written
      throw foreignText(text, name) || foreignText(line, name) || importHint(`${name}, line ${i + 1} is no JSON: ${error.message}.`, name);
    }
  });
  return items;
}

function filled(p) {
  return {
    study: "", source: "measured", origin: "", status: "ok", reason: "", engine_version: "",
    hardware: "", strategies: [], config: {}, command: "", workload: {}, load: {}, seed: 0,
    repeat: 0, values: {}, telemetry: {}, fingerprint: {}, client: {}, commit: "", dirty: false, machine: null, versions: {}, ...p,
  };
}

function stable(value) {
  if (Array.isArray(value)) return `[${value.map(stable).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.keys(value).sort().map((k) => `${k}:${stable(value[k])}`).join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}

function hash(text) {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i += 1) {
    a = Math.imul(a ^ text.charCodeAt(i), 2654435761);
    b = Math.imul(b ^ text.charCodeAt(i), 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return (b >>> 0).toString(36) + (a >>> 0).toString(36);
}

function workloadName(p) {
  const w = p.workload;
  if (w.name) return String(w.name);
  if (w.isl !== undefined && w.osl !== undefined) return `${w.isl} → ${w.osl} tokens`;
  return Object.keys(w).length ? stable(w) : "not named";
}

// Repeats (same engine, model, machine, configuration, workload, load) become one group.
function groupPoints(points) {
  const groups = new Map();
  for (const p of points) {
    const what = [p.engine, p.engine_version, p.model, p.hardware, p.config, p.workload, p.load];
    const key = hash(stable([...what, p.source === "published" ? 1 : 0]));
    if (!groups.has(key)) groups.set(key, { key, points: [] });
    groups.get(key).points.push(p);
  }
  return [...groups.values()].map(summarise);
}

function summarise(group) {
  const good = group.points.filter((p) => p.status === "ok");
  const used = good.length ? good : group.points;
  const lists = Object.create(null);
  for (const p of used) {
    for (const [name, value] of numbersOf(p)) (lists[name] ||= []).push(value);
  }
  group.first = used[0];
  group.status = good.length ? "ok" : used[0].status;
  group.failed = group.points.length - good.length;
  group.repeats = good.length;
  group.values = Object.create(null);
  group.range = Object.create(null);
  for (const [name, list] of Object.entries(lists)) {
    list.sort((a, b) => a - b);
    const middle = list.length >> 1;
    group.values[name] = list.length % 2 ? list[middle] : (list[middle - 1] + list[middle]) / 2;
    group.range[name] = [list[0], list[list.length - 1]];
  }
  group.workload = workloadName(group.first);
  group.worse = group.points.find((p) => p.telemetry.quality_passed === false) || null;
  group.bound = group.points.some((p) => p.client.client_bound);
  return group;
}

function numbersOf(p) {
  const numbers = Object.entries(p.values);
  const keep = (name, value) => {
    const number = typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
    if (typeof number === "number" && Number.isFinite(number)) numbers.push([name, number]);
  };
  for (const beside of Object.keys(BESIDE)) {
    for (const [name, value] of Object.entries(p[beside])) keep(`${beside}.${name}`, value);
  }
  const inner = p.workload.config;
  if (typeof inner === "object" && inner !== null) {
    for (const [name, value] of Object.entries(inner)) keep(`workload.config.${name}`, value);
  }
  return numbers;
}

function metricsOf(groups) {
  const counts = new Map();
  for (const g of groups) {
    for (const name of Object.keys(g.values)) counts.set(name, (counts.get(name) || 0) + 1);
  }
  return [...counts.keys()].sort((a, b) => {
    const inner = (n) => Object.keys(BESIDE).indexOf(besideOf(n));
    return inner(a) - inner(b) || metricInfo(a).words.localeCompare(metricInfo(b).words);
  });
}

const COMPARE = {
  "<": (a, b) => a < b, "≤": (a, b) => a <= b, ">": (a, b) => a > b, "≥": (a, b) => a >= b,
};

// A group that lacks a budget's metric does not meet the budget.
const meets = (g, budget) =>
  g.values[budget.metric] !== undefined && COMPARE[budget.op](g.values[budget.metric], budget.value);
// What failed the tuner's quality check says other things than the baseline: it is never the best.
const feasible = (g, budgets) => g.status === "ok" && !g.worse && budgets.every((b) => meets(g, b));
const isBetter = (a, b, direction) => (direction === "max" ? a > b : a < b);

function bestOf(groups, budgets, objective) {
  let best = null;
  for (const g of groups) {
    const value = g.values[objective.metric];
    if (value === undefined || !feasible(g, budgets)) continue;
    if (!best || isBetter(value, best.values[objective.metric], objective.direction)) best = g;
  }
  return best;
}

// For each budget: the best value without it, and what keeping it costs (a part of that value).
function pricesOf(groups, budgets, objective) {
  const best = bestOf(groups, budgets, objective);
  return budgets.map((budget) => {
    const others = budgets.filter((b) => b !== budget);
    const without = bestOf(groups, others, objective);
    const a = without && without.values[objective.metric];
    const b = best && best.values[objective.metric];
    return { budget, without, cost: without && best && a ? Math.abs((b - a) / a) : null };
  });
}

// The groups that no other beats on both axes, best x first.
function paretoOf(groups, x, y) {
  const known = groups.filter((g) => g.values[x.name] !== undefined && g.values[y.name] !== undefined);
  const sign = (info) => (info.better === "max" ? -1 : 1);
  const [sx, sy] = [sign(x), sign(y)];
  known.sort((a, b) => sx * (a.values[x.name] - b.values[x.name]) || sy * (a.values[y.name] - b.values[y.name]));
  const front = [];
  let limit = Infinity;
  for (const g of known) {
    if (sy * g.values[y.name] < limit) {
      limit = sy * g.values[y.name];
      front.push(g);
    }
  }
  return front;
}
