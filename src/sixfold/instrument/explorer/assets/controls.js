// What the user sets: objective, budgets, axes, filters. Texts of points go in as textContent only.

const $ = (id) => document.getElementById(id);
const settings = JSON.parse($("settings").textContent); // presets, and from where a live page reads on

function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

function select(label, options, value, change, id) {
  const node = el("select", { "aria-label": label, id: id || "", onchange: () => change(node.value) });
  for (const [key, text] of options) node.append(el("option", { value: key, text, selected: key === value }));
  return node;
}

const metricOptions = (metrics) => metrics.map((m) => [m, metricInfo(m).words]);

// "Maximise output throughput with TTFT p95 < 300 ms and ..."
function sentence() {
  const { metric, direction } = state.objective;
  const goal = `${direction === "max" ? "Maximise" : "Minimise"} ${metricInfo(metric).words}`;
  const budgets = state.budgets.map((b) => `${metricInfo(b.metric).words} ${b.op} ${budgetText(b)}`);
  return budgets.length ? `${goal} with ${budgets.join(" and ")}` : goal;
}

function budgetText(b) {
  const shown = Number((b.value / (unitsOf(metricInfo(b.metric))[b.unit] || 1)).toPrecision(6));
  return b.unit === "$" ? `$${shown}` : b.unit ? `${shown} ${b.unit}` : String(shown);
}

function drawClauses(metrics, changed) {
  const host = $("clauses");
  const o = state.objective;
  const goal = el("div", { className: "clause goal" },
    select("Direction", [["max", "Maximise"], ["min", "Minimise"]], o.direction, (v) => {
      state.objective = { ...o, direction: v };
      changed();
    }, "direction"),
    select("Objective", metricOptions(metrics), o.metric, (v) => {
      state.objective = { metric: v, direction: metricInfo(v).better };
      changed();
    }, "objective"));
  const add = el("button", {
    type: "button", className: "add", id: "add-budget", text: "+ budget",
    onclick: () => {
      state.budgets.push(newBudget(metrics));
      changed();
    },
  });
  host.replaceChildren(goal, ...state.budgets.map((b, i) => clause(b, i, metrics, changed)), add, presetSelect(metrics, changed));
  drawPresetNote(metrics);
}

function presetSelect(metrics, changed) {
  const active = activePreset(settings.presets, metrics);
  const options = [["", "preset…"], ...settings.presets.map((p) => [p.name, p.name])];
  const node = select("Preset of budgets", options, active ? active.name : "", (name) => {
    const preset = settings.presets.find((p) => p.name === name);
    state.preset = preset ? name : "";
    state.budgets = preset ? presetBudgets(preset, metrics) : [];
    changed();
  }, "preset");
  for (const option of node.options) {
    const preset = settings.presets.find((p) => p.name === option.value);
    if (preset) option.title = preset.source;
  }
  return node;
}

// Who published the numbers, and which of them say nothing about these points.
function drawPresetNote(metrics) {
  const active = activePreset(settings.presets, metrics);
  $("preset-note").hidden = !active;
  if (!active) return;
  const lacking = active.budgets.filter((b) => !metrics.includes(b.metric));
  const names = lacking.map((b) => `${metricInfo(b.metric).words} ${b.op} ${formatValue(b.value, metricInfo(b.metric))}`);
  const left = names.length ? ` No point has what ${names.join(" and ")} asks for: left out, so whether the whole preset is met is not known.` : "";
  $("preset-note").textContent = `${active.name}: ${active.source}.${left}`;
}

function newBudget(metrics) {
  const used = new Set([state.objective.metric, ...state.budgets.map((b) => b.metric)]);
  const metric = metrics.find((m) => !used.has(m) && metricInfo(m).better === "min") || metrics[0];
  const values = app.groups.map((g) => g.values[metric]).filter((v) => v !== undefined).sort((a, b) => a - b);
  const value = values.length ? Number(values[values.length >> 1].toPrecision(2)) : 1;
  const unit = Object.keys(unitsOf(metricInfo(metric)))[0];
  return { metric, op: metricInfo(metric).better === "min" ? "≤" : "≥", value, unit };
}

function clause(b, i, metrics, changed) {
  const units = unitsOf(metricInfo(b.metric));
  const value = el("input", {
    type: "number", step: "any", id: `budget-${i}`, value: Number((b.value / (units[b.unit] || 1)).toPrecision(6)),
    "aria-label": "Value",
    onchange: () => {
      const number = Number(value.value);
      value.setAttribute("aria-invalid", value.value === "" || !Number.isFinite(number));
      if (value.value === "" || !Number.isFinite(number)) return;
      b.value = number * (units[b.unit] || 1);
      changed();
    },
  });
  const metric = select("Budget metric", metricOptions(metrics), b.metric, (v) => {
    state.budgets[i] = { ...b, metric: v, unit: Object.keys(unitsOf(metricInfo(v)))[0], value: b.value };
    changed();
  }, `budget-metric-${i}`);
  const op = select("Relation", Object.keys(COMPARE).map((c) => [c, c]), b.op, (v) => {
    b.op = v;
    changed();
  }, `budget-op-${i}`);
  const unit = Object.keys(units).length > 1
    ? select("Unit", Object.keys(units).map((u) => [u, u || "×1"]), b.unit, (v) => {
      b.value = (b.value / (units[b.unit] || 1)) * units[v];
      b.unit = v;
      changed();
    }, `budget-unit-${i}`)
    : el("span", { text: b.unit });
  const remove = el("button", {
    type: "button", className: "link remove", "aria-label": `Remove the budget on ${metricInfo(b.metric).words}`, text: "×",
    onclick: () => {
      state.budgets.splice(i, 1);
      changed();
      $("add-budget").focus();
    },
  });
  return el("div", { className: "clause" }, el("span", { className: "quiet", text: i ? "and" : "with" }), metric, op, value, unit, remove);
}

function drawAxesControls(metrics, changed) {
  const axis = (name, logName, words) => [
    el("label", {}, `${words} `, select(`${words} axis`, metricOptions(metrics), state[name], (v) => {
      state[name] = v;
      changed();
    }, `axis-${name}`)),
    el("label", { className: "check" }, el("input", {
      type: "checkbox", id: `log-${name}`, checked: state[logName],
      onchange: (event) => {
        state[logName] = event.target.checked;
        changed();
      },
    }), "log"),
  ];
  $("axes").replaceChildren(
    el("span", { className: "axis-set" }, ...axis("y", "logY", "Y")),
    el("span", { className: "axis-set" }, ...axis("x", "logX", "X")),
    el("label", {}, "Colour ", select("Colour by", COLOURS.map((c) => [c, c]), state.colour, (v) => {
      state.colour = v;
      changed();
    }, "colour")),
  );
}

const shortModel = (name) => name.split("/").pop() || name;

function drawFacets(groups, changed) {
  const opened = new Map([...$("facets").querySelectorAll("details")].map((d) => [d.dataset.facet, d.open]));
  const scrolled = new Map([...$("facets").querySelectorAll("details")].map((d) => [d.dataset.facet, d.querySelector(".values").scrollTop]));
  const nodes = Object.keys(FACETS).map((facet) => drawFacet(facet, groups, opened.get(facet), changed));
  $("facets").replaceChildren(...nodes.filter(Boolean));
  for (const node of nodes.filter(Boolean)) node.querySelector(".values").scrollTop = scrolled.get(node.dataset.facet) || 0;
}

function drawFacet(facet, groups, open, changed) {
  const counts = new Map();
  for (const g of groups) {
    const here = passes(g, facet);
    for (const v of FACETS[facet].of(g)) counts.set(v, (counts.get(v) || 0) + (here ? 1 : 0));
  }
  if (!counts.size || (counts.size === 1 && !state.filters[facet])) return null;
  const chosen = state.filters[facet];
  const values = [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0], "en", { numeric: true }));
  const rows = values.map(([value, count]) => facetRow(facet, value, count, values, changed));
  const narrow = chosen ? ` ${chosen.size} of ${values.length}` : "";
  const first = window.innerWidth > 900 && ["model", "hardware", "workload", "engine"].includes(facet);
  return el("details", { open: open ?? first, "data-facet": facet },
    el("summary", {}, FACETS[facet].title, el("span", { className: "quiet small", text: narrow })),
    el("div", { className: "values", role: "group", "aria-label": FACETS[facet].title }, ...rows));
}

function facetRow(facet, value, count, values, changed) {
  const chosen = state.filters[facet];
  const box = el("input", {
    type: "checkbox", checked: !chosen || chosen.has(value), id: `f-${facet}-${value}`,
    onchange: () => {
      const next = new Set(chosen || values.map(([v]) => v));
      if (box.checked) next.add(value);
      else next.delete(value);
      if (values.every(([v]) => next.has(v))) delete state.filters[facet];
      else state.filters[facet] = next;
      changed();
    },
  });
  const only = el("button", {
    type: "button", className: "link only", text: "only", "aria-label": `Only ${value}`, id: `o-${facet}-${value}`,
    onclick: () => {
      state.filters[facet] = new Set([value]);
      if (!shownGroups(app.groups).length) state.filters = { [facet]: new Set([value]) };
      changed();
    },
  });
  return el("div", { className: count ? "value" : "value none" },
    el("label", { className: "check", title: value }, box, el("span", { className: "cut", text: facet === "model" ? shortModel(value) : value })), only,
    el("span", { className: "quiet number", text: String(count) }));
}
