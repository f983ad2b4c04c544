// What follows from it: best configuration, prices, details of a point, comparison of two.

const badge = (text, kind) => el("span", { className: `badge ${kind || ""}`, text });

function term(name, value, note) {
  const shown = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
  return [el("dt", { text: name }), el("dd", {}, shown, note ? badge(note, "soft") : null)];
}

const list = (entries) => el("dl", {}, ...entries.flatMap(([k, v, note]) => term(k, v, note)));
const entriesOf = (object) => Object.entries(object || {});

function sourceBadge(p) {
  const kind = p.source === "measured" ? "good" : "warn";
  return badge(p.source === "measured" ? "measured" : `${p.source}, not measured here`, kind);
}

function shortConfig(p) {
  const skip = new Set(["image", "batch_size", "mode"]);
  const parts = entriesOf(p.config).filter(([k, v]) => !skip.has(k) && v !== 1 && v !== 0 && v !== "" && v !== false);
  const mode = p.config.mode && p.config.mode !== "agg" ? [p.config.mode] : [];
  return [...mode, ...parts.map(([k, v]) => (v === true ? k : `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`))].join(" · ");
}

const loadText = (p) => entriesOf(p.load).map(([k, v]) => `${k} ${v}`).join(", ");
const nameOf = (g) => [g.first.engine, g.first.engine_version].filter(Boolean).join(" ");

function command(p) {
  const text = p.command;
  if (!text) return el("p", { className: "quiet small", text: "No command came with this point." });
  const copy = el("button", {
    type: "button", className: "copy", text: "Copy",
    onclick: async () => {
      copy.textContent = (await copyText(text)) ? "Copied" : "Select it by hand";
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    },
  });
  const note = (p.client.derived || []).includes("command")
    ? el("p", { className: "quiet small", text: "Put together from the published columns; other settings are not known." })
    : null;
  return el("div", {}, el("div", { className: "command" }, el("pre", { tabIndex: 0 }, el("code", {}, ...words(text))), copy), note);
}

// Lines break between arguments, not within a flag.
const words = (text) => text.split(/( )/).map((w) => (w === " " ? " " : el("span", { className: "word", text: w })));

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { value: text, readOnly: true });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function drawBest(best, shown, actions) {
  const host = $("best");
  const info = metricInfo(state.objective.metric);
  const title = el("h2", { text: "Best configuration" });
  if (!best) {
    const has = shown.some((g) => g.values[info.name] !== undefined);
    const why = !shown.length ? "No point passes the filters."
      : has ? "No point meets all budgets. Loosen one, or see below which one costs what."
      : `No shown point has a value for ${info.words}.`;
    host.replaceChildren(title, el("p", { className: "nothing", text: why }));
    return;
  }
  const p = best.first;
  const budgets = state.budgets.map((b) => {
    const budget = metricInfo(b.metric);
    return `${budget.words} ${formatValue(best.values[b.metric], budget)}`.replaceAll(" ", "\u00a0");
  });
  host.replaceChildren(title,
    el("p", { className: "big", text: formatValue(best.values[info.name], info) }),
    el("p", { className: "quiet", text: [info.words, ...budgets].join(" · ") }),
    el("p", { className: "who" }, el("strong", { text: nameOf(best) }), ` on ${p.hardware || "hardware not named"}`),
    el("p", { className: "quiet small", text: [p.model, best.workload, loadText(p), shortConfig(p)].filter(Boolean).join(" · ") }),
    badges(best, info.name), command(p), buttons(best, actions));
}

function badges(g, metric) {
  const row = el("p", { className: "badges" }, sourceBadge(g.first));
  if ((g.first.client.derived || []).includes(metric)) row.append(badge("derived value", "soft"));
  if (g.repeats > 1) row.append(badge(`${g.repeats} repeats`, "soft"));
  if (g.failed && g.status === "ok") row.append(badge(`${g.failed} of ${g.points.length} failed`, "bad"));
  if (g.bound) row.append(badge("load generator at its limit", "bad"));
  if (g.worse) row.append(badge("failed the quality check", "bad"));
  if (g.status !== "ok") row.append(badge(g.status.replaceAll("_", " "), "bad"));
  return row;
}

function buttons(g, actions) {
  const paired = state.pair.includes(g.key);
  return el("p", { className: "buttons" },
    el("button", { type: "button", text: "Details", onclick: () => actions.open(g.key) }),
    el("button", { type: "button", text: paired ? "Leave comparison" : "Compare", onclick: () => actions.pair(g.key) }));
}

function drawPrices(groups) {
  const host = $("prices");
  host.hidden = !state.budgets.length;
  if (host.hidden) return;
  const info = metricInfo(state.objective.metric);
  const rows = pricesOf(groups, state.budgets, state.objective).map(({ budget, without, cost }) => {
    const name = `${metricInfo(budget.metric).words} ${budget.op} ${budgetText(budget)}`;
    let text = "Nothing fits even without it.";
    if (without && cost === null) text = `Without it: ${formatValue(without.values[info.name], info)}; with it nothing fits.`;
    else if (without && cost === 0) text = "Costs nothing: the best stays the same without it.";
    else if (without) text = `Without it: ${formatValue(without.values[info.name], info)}.`;
    const share = cost === null ? "" : cost === 0 ? "0 %" : `${direction()}${(cost * 100).toPrecision(cost < 0.1 ? 2 : 3)} %`;
    return el("li", {}, el("div", {}, el("strong", { text: name }), el("p", { className: "quiet small", text })), el("span", { className: "cost", text: share }));
  });
  host.replaceChildren(el("h2", { text: "Price of each budget" }), el("ul", { className: "prices" }, ...rows));
}

const direction = () => (state.objective.direction === "max" ? "−" : "+");

function drawDetails(g, actions) {
  const host = $("details");
  host.hidden = !g;
  if (!g) return;
  const p = g.first;
  const close = el("button", { type: "button", className: "link", text: "Close", onclick: () => actions.open("") });
  const parts = [
    el("div", { className: "head" }, el("h2", { text: nameOf(g) }), close),
    el("p", { className: "quiet", text: `${p.model} on ${p.hardware || "hardware not named"}` }),
    badges(g),
  ];
  if (p.reason) parts.push(el("p", { className: "alert", text: p.reason }));
  if (g.worse) {
    parts.push(el("p", { className: "alert", text: `Its settings are lossy and failed the quality check: ${g.worse.telemetry.quality_reason || "no reason was kept"}.` }));
  }
  if (g.bound) {
    parts.push(el("p", { className: "alert", text: "The load generator was at its own limit: this point shows the client, not the server." }));
  }
  parts.push(el("h3", { text: "Values" }), list(valueRows(g)));
  if (entriesOf(p.config).length) parts.push(el("h3", { text: "Configuration" }), list(entriesOf(p.config)));
  if (p.strategies.length) parts.push(el("p", { className: "badges" }, ...p.strategies.map((s) => badge(s, "soft"))));
  parts.push(el("h3", { text: "Workload and load" }), list([...entriesOf(p.workload), ...entriesOf(p.load)]));
  for (const [title, object] of [["Telemetry", p.telemetry], ["What was sent", p.fingerprint]]) {
    if (entriesOf(object).length) parts.push(el("h3", { text: title }), nested(object));
  }
  parts.push(el("h3", { text: "Command" }), command(p));
  parts.push(el("h3", { text: "Provenance" }), list(provenance(g)), buttons(g, actions));
  host.replaceChildren(...parts);
}

const MOST_ROWS = 100;
const MOST_DEPTH = 5;

// An object or list as a small table: names and values, tables within tables.
function nested(value, depth = 0) {
  if (typeof value === "number") return formatNumber(value);
  if (typeof value !== "object" || value === null) return String(value ?? "–");
  if (depth >= MOST_DEPTH) return JSON.stringify(value);
  const entries = Object.entries(value);
  const plain = Array.isArray(value) && value.every((v) => typeof v !== "object" || v === null);
  if (plain || !entries.length) return entries.slice(0, MOST_ROWS).map(([, v]) => nested(v)).join(", ") || "–";
  const rows = entries.slice(0, MOST_ROWS).map(([name, v]) =>
    el("tr", {}, el("th", { scope: "row", text: Array.isArray(value) ? Number(name) + 1 : name.replaceAll("_", " ") }), el("td", {}, nested(v, depth + 1))));
  if (entries.length > MOST_ROWS) rows.push(el("tr", {}, el("td", { colSpan: 2, text: `and ${entries.length - MOST_ROWS} more` })));
  return el("table", { className: "nested" }, el("tbody", {}, ...rows));
}

function valueRows(g) {
  const derived = g.first.client.derived || [];
  return Object.keys(g.values).filter(isValue).map((name) => {
    const info = metricInfo(name);
    const [low, high] = g.range[name];
    const range = g.repeats > 1 ? ` (${formatValue(low, info)} to ${formatValue(high, info)})` : "";
    return [info.words, formatValue(g.values[name], info) + range, derived.includes(name) ? "derived" : ""];
  });
}

function provenance(g) {
  const p = g.first;
  const { derived, ...client } = p.client;
  const machine = p.machine ? entriesOf(p.machine) : [];
  const rows = [
    ["source", p.source], ["origin", p.origin], ["study", p.study], ["date", p.date.replace("T00:00:00Z", "")],
    ["commit", p.commit + (p.dirty ? " (with changes)" : "")], ["seed", p.commit ? p.seed : ""],
    ...entriesOf(p.versions), ...machine, ...entriesOf(client), ["id", g.points.map((q) => q.id).join(", ")],
  ];
  return rows.filter(([, v]) => v !== "" && v !== null);
}

function drawPair(groups, actions) {
  const host = $("pair");
  const chosen = state.pair.map((key) => groups.find((g) => g.key === key)).filter(Boolean);
  host.hidden = !chosen.length;
  if (host.hidden) return;
  const clear = el("button", { type: "button", className: "link", text: "Clear", onclick: () => actions.pair("") });
  const head = el("div", { className: "head" }, el("h2", { text: "Comparison" }), clear);
  if (chosen.length < 2) {
    host.replaceChildren(head, el("p", { className: "quiet", text: `${nameOf(chosen[0])}, ${loadText(chosen[0].first)}: choose a second point.` }));
    return;
  }
  host.replaceChildren(head,
    diffTable("What differs", settingsDiff(...chosen), "Nothing: the settings are the same."),
    diffTable("Metrics", metricsDiff(...chosen), "They share no metric."));
}

function settingsDiff(a, b) {
  const flat = (g) => {
    const p = g.first;
    const prefixed = (name, object) => entriesOf(object).map(([k, v]) => [name + k, v]);
    return new Map([
      ["engine", p.engine], ["version", p.engine_version], ["model", p.model], ["hardware", p.hardware],
      ["strategies", p.strategies.join(", ")], ...prefixed("", p.config), ...prefixed("workload ", p.workload), ...prefixed("load ", p.load),
    ]);
  };
  const [left, right] = [flat(a), flat(b)];
  const names = [...new Set([...left.keys(), ...right.keys()])];
  const show = (v) => (v === undefined || v === "" ? "–" : typeof v === "object" ? JSON.stringify(v) : String(v));
  return names.map((n) => [n, show(left.get(n)), show(right.get(n)), "", ""]).filter(([, l, r]) => l !== r);
}

function metricsDiff(a, b) {
  const names = Object.keys(a.values).filter((n) => n in b.values && isValue(n));
  return names.map((n) => {
    const info = metricInfo(n);
    const [x, y] = [a.values[n], b.values[n]];
    const change = x ? (y - x) / Math.abs(x) : null;
    const text = change === null ? "" : `${change > 0 ? "+" : change < 0 ? "−" : ""}${Math.abs(change * 100).toFixed(1)} %`;
    const kind = !change ? "" : (change > 0) === (info.better === "max") ? "better" : "worse";
    return [info.words, formatValue(x, info), formatValue(y, info), text, kind];
  });
}

function diffTable(title, rows, none) {
  if (!rows.length) return el("div", {}, el("h3", { text: title }), el("p", { className: "quiet", text: none }));
  const wide = rows.some((r) => r[3]);
  const head = ["", "A", "B", ...(wide ? ["B to A"] : [])].map((t) => el("th", { scope: "col", text: t }));
  const body = rows.map(([name, l, r, change, kind]) =>
    el("tr", {}, el("th", { scope: "row", text: name }), el("td", { text: l }), el("td", { text: r }),
      wide ? el("td", { className: `change ${kind}`, text: change }) : null));
  return el("div", { className: "scroll" }, el("h3", { text: title }),
    el("table", { className: "diff" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)));
}
