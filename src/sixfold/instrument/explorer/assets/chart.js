// The scatter: plain SVG. Strong: feasible; faint: not; steps: Pareto; crosses: failures.

const SVG = "http://www.w3.org/2000/svg";
const PAD = { left: 64, right: 18, top: 16, bottom: 46 };
const STRIP = 30;

function svg(tag, attributes, parent, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function scaleFor(values, log, from, to) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) [low, high] = [Math.min(low, v), Math.max(high, v)];
  if (log) {
    [low, high] = [Math.log10(low), Math.log10(high)];
    const room = (high - low || 1) * 0.05;
    [low, high] = [low - room, high + room];
    const at = (v) => from + ((Math.log10(v) - low) / (high - low)) * (to - from);
    return { at, ticks: logTicks(low, high) };
  }
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  low = low >= 0 && low - room < (high - low) * 0.3 ? 0 : low - room;
  high += room;
  const at = (v) => from + ((v - low) / (high - low)) * (to - from);
  return { at, ticks: linearTicks(low, high) };
}

function linearTicks(low, high) {
  const raw = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high) {
  const marks = high - low > 3 ? [1] : high - low > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power += 1) {
    for (const mark of marks) {
      const tick = Number((mark * 10 ** power).toPrecision(3));
      if (Math.log10(tick) >= low && Math.log10(tick) <= high) ticks.push(tick);
    }
  }
  return ticks;
}

// view: {groups, budgets, x, y, logX, logY, colourOf, best, open, pair}; returns what was drawn.
function drawChart(host, view) {
  host.replaceChildren();
  const usable = (v, log) => v !== undefined && (!log || v > 0);
  const drawn = view.groups.filter(
    (g) => g.status === "ok" && usable(g.values[view.x.name], view.logX) && usable(g.values[view.y.name], view.logY),
  );
  const failures = view.groups.filter((g) => g.status !== "ok");
  if (!drawn.length && !failures.length) return { drawn, failures };
  const width = host.clientWidth || 600;
  const height = Math.max(300, Math.min(520, width * 0.6));
  const bottom = height - PAD.bottom - (failures.length ? STRIP : 0);
  const box = { left: PAD.left, right: width - PAD.right, top: PAD.top, bottom };
  const span = (name) => drawn.flatMap((g) => g.range[name]).filter((v) => v !== undefined);
  const xs = scaleFor(span(view.x.name).filter((v) => usable(v, view.logX)).concat(drawn.length ? [] : [1]), view.logX, box.left, box.right);
  const ys = scaleFor(span(view.y.name).filter((v) => usable(v, view.logY)).concat(drawn.length ? [] : [1]), view.logY, box.bottom, box.top);
  drawRegion(host, view, xs, ys, box);
  drawAxes(host, view, xs, ys, box, height);
  const strong = drawn.filter((g) => feasible(g, view.budgets));
  drawPareto(host, paretoOf(strong, view.x, view.y), view, xs, ys);
  const order = (g) => (g === view.best ? 2 : strong.includes(g) ? 1 : 0);
  const ranks = new Map(drawn.map((g) => [g, order(g)]));
  const place = (g) => [xs.at(g.values[view.x.name]), ys.at(g.values[view.y.name])];
  for (const g of [...drawn].sort((a, b) => ranks.get(a) - ranks.get(b))) {
    drawPoint(host, g, { ...view, xs, ys }, place(g), ranks.get(g));
  }
  drawFailures(host, failures, view, xs, box);
  host.setAttribute("viewBox", `0 0 ${width} ${height}`);
  host.setAttribute("height", height);
  drawn.sort((a, b) => a.values[view.x.name] - b.values[view.x.name]);
  return { drawn, failures };
}

function drawRegion(host, view, xs, ys, box) {
  const clip = (v, low, high) => Math.max(low, Math.min(high, v));
  let [left, right, top, bottom] = [box.left, box.right, box.top, box.bottom];
  const lines = [];
  for (const b of view.budgets) {
    const less = b.op === "<" || b.op === "≤";
    if (b.metric === view.x.name && (!view.logX || b.value > 0)) {
      const at = clip(xs.at(b.value), box.left, box.right);
      if (less) right = Math.min(right, at);
      else left = Math.max(left, at);
      lines.push({ x1: at, x2: at, y1: box.top, y2: box.bottom });
    } else if (b.metric === view.y.name && (!view.logY || b.value > 0)) {
      const at = clip(ys.at(b.value), box.top, box.bottom);
      if (less) top = Math.max(top, at);
      else bottom = Math.min(bottom, at);
      lines.push({ x1: box.left, x2: box.right, y1: at, y2: at });
    }
  }
  if (!lines.length) return;
  const size = { width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  svg("rect", { class: "region", x: left, y: top, ...size }, host);
  for (const line of lines) svg("line", { class: "limit", ...line }, host);
}

function drawAxes(host, view, xs, ys, box, height) {
  let last = -Infinity;
  for (const tick of xs.ticks) {
    const at = xs.at(tick);
    svg("line", { class: "grid", x1: at, x2: at, y1: box.top, y2: box.bottom }, host);
    if (at - last < 46) continue;
    last = at;
    svg("text", { class: "tick", x: at, y: box.bottom + 16, "text-anchor": "middle" }, host, formatTick(tick, view.x));
  }
  for (const tick of ys.ticks) {
    const at = ys.at(tick);
    svg("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }, host);
    svg("text", { class: "tick", x: box.left - 8, y: at + 4, "text-anchor": "end" }, host, formatTick(tick, view.y));
  }
  svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }, host);
  const title = (info) => info.words + (info.unit && info.unit !== "s" ? ` (${info.unit})` : "");
  const arrow = (info) => ` · ${info.better === "max" ? "more" : "less"} is better`;
  svg("text", { class: "name", x: box.right, y: height - 8, "text-anchor": "end" }, host, title(view.x) + arrow(view.x));
  const middle = (box.top + box.bottom) / 2;
  const turn = { x: 14, y: middle, transform: `rotate(-90 14 ${middle})`, "text-anchor": "middle" };
  svg("text", { class: "name", ...turn }, host, title(view.y));
}

const formatTick = (tick, info) =>
  info.unit === "s" ? formatValue(tick, info) : tick >= 1000 ? `${formatNumber(tick / 1000)}k` : formatNumber(tick);

function drawPareto(host, front, view, xs, ys) {
  if (front.length < 2) return;
  const path = front.map((g, i) => {
    const [x, y] = [xs.at(g.values[view.x.name]), ys.at(g.values[view.y.name])];
    return i ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  svg("path", { class: "pareto", d: path.join("") }, host);
}

function drawPoint(host, g, view, [x, y], rank) {
  const node = svg("g", { class: `point rank${rank}`, "data-key": g.key }, host);
  node.style.setProperty("--c", view.colourOf(g));
  const [rx, ry] = [g.range[view.x.name], g.range[view.y.name]];
  const whisker = (line) => svg("line", { class: "whisker", ...line }, node);
  const floor = (v, log) => (log && v <= 0 ? null : v);
  if (g.repeats > 1 && floor(rx[0], view.logX) !== null && floor(ry[0], view.logY) !== null) {
    whisker({ x1: view.xs.at(rx[0]), x2: view.xs.at(rx[1]), y1: y, y2: y });
    whisker({ x1: x, x2: x, y1: view.ys.at(ry[0]), y2: view.ys.at(ry[1]) });
  }
  if (g.key === view.open || view.pair.includes(g.key)) svg("circle", { class: "chosen", cx: x, cy: y, r: 10 }, node);
  if (rank === 2) {
    svg("path", { class: "star", d: star(x, y, 10) }, node);
  } else {
    svg("circle", { class: "dot", cx: x, cy: y, r: rank ? 4.5 : 3.2 }, node);
  }
  if (rank) svg("circle", { class: "target", cx: x, cy: y, r: 9 }, node);
}

function star(x, y, r) {
  const corner = (i) => {
    const angle = (Math.PI / 5) * i - Math.PI / 2;
    const far = i % 2 ? r * 0.45 : r;
    return `${(x + far * Math.cos(angle)).toFixed(1)} ${(y + far * Math.sin(angle)).toFixed(1)}`;
  };
  return `M${Array.from({ length: 10 }, (_, i) => corner(i)).join("L")}Z`;
}

// Failed runs have no place on the axes: a strip below, at their x where that is known, else at
// its right end.
function drawFailures(host, failures, view, xs, box) {
  if (!failures.length) return;
  const y = box.bottom + 38;
  svg("rect", { class: "strip", x: box.left, y: y - 11, width: box.right - box.left, height: 22, rx: 4 }, host);
  svg("text", { class: "tick", x: box.left - 8, y: y + 4, "text-anchor": "end" }, host, "failed");
  const homeless = failures.filter((g) => !(g.values[view.x.name] > 0));
  const step = Math.min(16, (box.right - box.left - 24) / Math.max(1, homeless.length));
  failures.forEach((g) => {
    const known = g.values[view.x.name];
    const packed = box.right - 12 - homeless.indexOf(g) * step;
    const at = known > 0 ? Math.max(box.left, Math.min(box.right, xs.at(known))) : packed;
    const node = svg("g", { class: "point failure", "data-key": g.key }, host);
    svg("path", { d: `M${at - 4} ${y - 4}l8 8m0 -8l-8 8` }, node);
    svg("circle", { class: "target", cx: at, cy: y, r: 9 }, node);
    svg("title", {}, node, `${g.status.replaceAll("_", " ")}: ${g.first.reason || ""}`);
  });
}
