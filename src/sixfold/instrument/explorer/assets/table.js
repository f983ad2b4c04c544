// The table, and files of what is shown.

const PAGE = 50;

function columnsOf() {
  const metrics = [state.objective.metric, state.y, state.x, ...state.budgets.map((b) => b.metric)];
  const text = (id, title, of) => ({ id, title, of, show: of });
  return [
    text("engine", "Engine", nameOf),
    text("hardware", "Hardware", (g) => g.first.hardware),
    text("load", "Load", (g) => loadText(g.first)),
    ...[...new Set(metrics)].filter((m) => m && !m.startsWith("load.")).map((m) => ({
      id: m, title: metricInfo(m).words, number: true,
      of: (g) => g.values[m], show: (g) => formatValue(g.values[m], metricInfo(m)),
    })),
    text("fits", "Budgets", (g) => (g.status !== "ok" ? g.status.replaceAll("_", " ") : g.worse ? "quality failed" : feasible(g, state.budgets) ? "met" : "missed")),
    text("model", "Model", (g) => g.first.model),
    text("workload", "Workload", (g) => g.workload),
    text("config", "Configuration", (g) => shortConfig(g.first)),
  ];
}

function sortGroups(groups, columns) {
  const sort = state.sort || { column: state.objective.metric, down: state.objective.direction === "max" };
  const column = columns.find((c) => c.id === sort.column) || columns[0];
  const values = new Map(groups.map((g) => [g, column.of(g)]));
  const sign = sort.down ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [values.get(a), values.get(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
  };
  const fit = new Map(groups.map((g) => [g, feasible(g, state.budgets) ? 0 : 1]));
  const first = state.sort ? () => 0 : (a, b) => fit.get(a) - fit.get(b);
  return { sorted: [...groups].sort((a, b) => first(a, b) || compare(a, b)), sort };
}

function drawTable(groups, limit, actions) {
  const columns = columnsOf();
  const { sorted, sort } = sortGroups(groups, columns);
  const head = columns.map((c) => {
    const here = sort.column === c.id;
    const button = el("button", {
      type: "button", id: `sort-${c.id}`, text: c.title + (here ? (sort.down ? " ↓" : " ↑") : ""),
      onclick: () => actions.sort({ column: c.id, down: here ? !sort.down : Boolean(c.number) && metricInfo(c.id).better === "max" }),
    });
    const order = here ? (sort.down ? "descending" : "ascending") : "none";
    return el("th", { scope: "col", "aria-sort": order, className: c.number ? "number" : "" }, button);
  });
  const rows = sorted.slice(0, limit).map((g) => tableRow(g, columns, actions));
  const table = el("table", { className: "points" },
    el("caption", { text: `${groups.length.toLocaleString("en-US")} configurations, those that meet the budgets first` }),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, el("span", { className: "hidden", text: "Compare" })), ...head)),
    el("tbody", {}, ...rows));
  if (state.sort) table.caption.textContent = `${groups.length.toLocaleString("en-US")} configurations`;
  const rest = sorted.length - rows.length;
  const more = rest > 0
    ? el("button", { type: "button", id: "more", text: `Show ${Math.min(rest, 200)} more of ${rest}`, onclick: () => actions.more() })
    : null;
  $("table").replaceChildren(el("div", { className: "scroll" }, table), ...(more ? [more] : []));
}

function tableRow(g, columns, actions) {
  const box = el("input", {
    type: "checkbox", checked: state.pair.includes(g.key), "aria-label": `Compare ${nameOf(g)}, ${loadText(g.first)}`,
    id: `pair-${g.key}`, onchange: () => actions.pair(g.key),
  });
  const cells = columns.map((c, i) => {
    const text = c.show(g) || "–";
    if (!i) {
      const open = el("button", { type: "button", className: "link", id: `row-${g.key}`, text, onclick: () => actions.open(g.key) });
      return el("td", {}, open);
    }
    return el("td", { className: c.number ? "number" : c.id === "config" ? "cut" : "", text, title: c.id === "config" ? text : "" });
  });
  const kind = (state.open === g.key ? "open " : "") + (feasible(g, state.budgets) ? "" : "faint");
  return el("tr", { className: kind }, el("td", {}, box), ...cells);
}

function csvCell(value) {
  let text = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "");
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // no formulas
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvOf(points) {
  const plain = ["id", "study", "source", "origin", "status", "reason", "date", "engine", "engine_version", "model", "hardware", "command", "seed", "repeat", "commit"];
  const names = (field) => [...new Set(points.flatMap((p) => Object.keys(p[field])))].sort();
  const inner = ["values", "load", "workload", "config"].flatMap((f) => names(f).map((n) => [f, n]));
  const head = [...plain, "strategies", ...inner.map(([f, n]) => (f === "values" ? n : `${f}.${n}`))];
  const rows = points.map((p) => [...plain.map((f) => p[f]), p.strategies.join("; "), ...inner.map(([f, n]) => p[f][n])]);
  return [head, ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
