// Scoreboard: what came of every advice that was tried. Rows come with the page, gains and calls as
// they were made: nothing is judged here, and what did harm is drawn like what helped.

const CALL_KINDS = { GAIN: "good", "NO GAIN": "soft", INCONCLUSIVE: "warn", WORSE: "bad" };
const BOARD_FIRST = { column: "date", down: true };
const BOARD_COLUMNS = [
  { id: "strategy", title: "Strategy", of: (row) => row.strategy },
  { id: "call", title: "Call", of: (row) => Object.keys(CALL_KINDS).indexOf(row.call), show: (row) => [badge(row.call, CALL_KINDS[row.call])] },
  { id: "gain", title: "Gain", down: true, of: (row) => row.gain, show: boardGain },
  { id: "metric", title: "Metric", of: (row) => metricInfo(row.metric).words },
  { id: "pairs", title: "Pairs", down: true, of: (row) => row.pairs },
  { id: "flags", title: "Flags", of: (row) => row.flags.map(flagText).join(", "), show: boardFlags },
  { id: "symptom", title: "Symptom", of: (row) => row.symptom },
  { id: "engine", title: "Engine", of: (row) => row.engine, show: boardEngine },
  { id: "workload", title: "Workload", of: (row) => row.workload },
  { id: "slo", title: "Objective", of: (row) => row.slo },
  { id: "date", title: "Date", down: true, of: (row) => row.date, show: (row) => [row.date.slice(0, 10)] },
  { id: "commit", title: "Commit", of: (row) => row.commit, show: boardCommit },
];
const BAR = { width: 172, height: 16, cap: 4, furthest: 100 };

// As the guide: drawn anew only when what is asked of it has changed, whatever the points do.
function drawBoard() {
  $("board").hidden = !settings.scoreboard.length;
  $("board").open = state.board;
  const asked = JSON.stringify([state.boardStrategy, state.boardSort]);
  if (!state.board || $("board-table").dataset.asked === asked) return;
  if (!$("board-strategy")) $("board-count").before(boardControls());
  $("board-strategy").value = state.boardStrategy;
  $("board-table").dataset.asked = asked;
  const rows = boardRows();
  $("board-count").textContent = boardCount(rows);
  const active = document.activeElement && document.activeElement.id;
  $("board-table").replaceChildren(boardTable(rows));
  if (active && active.startsWith("board-sort-")) $(active).focus({ preventScroll: true });
}

function toggleBoard() {
  if ($("board").open !== state.board) askBoard({ board: $("board").open });
}

function askBoard(changes) {
  Object.assign(state, changes);
  remember();
  drawBoard();
}

function boardControls() {
  const counts = new Map();
  for (const { strategy } of settings.scoreboard) counts.set(strategy, (counts.get(strategy) || 0) + 1);
  const names = [...counts].sort((a, b) => a[0].localeCompare(b[0])).map(([name, n]) => [name, `${name} (${n})`]);
  const every = ["", `all (${settings.scoreboard.length})`];
  const chosen = select("Strategy of the trials", [every, ...names], "", (name) => askBoard({ boardStrategy: name }), "board-strategy");
  return el("div", { className: "guide-controls" }, el("label", {}, "Strategy ", chosen));
}

function boardCount(rows) {
  const calls = Object.keys(CALL_KINDS).map((call) => `${rows.filter((row) => row.call === call).length} ${call}`);
  return `${state.boardStrategy || "All strategies"}: ${rows.length} tried, ${calls.join(", ")}`;
}

// What has no value comes last, in either direction.
function boardRows() {
  const { column, down } = state.boardSort || BOARD_FIRST;
  const { of } = BOARD_COLUMNS.find((c) => c.id === column);
  const compare = (x, y) => (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
  return settings.scoreboard.filter((row) => !state.boardStrategy || row.strategy === state.boardStrategy).sort((a, b) => {
    const [x, y] = [of(a), of(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (down ? -1 : 1) * compare(x, y);
  });
}

function boardTable(rows) {
  const sort = state.boardSort || BOARD_FIRST;
  const head = BOARD_COLUMNS.map((c) => {
    const here = sort.column === c.id;
    const button = el("button", {
      type: "button", id: `board-sort-${c.id}`, text: c.title + (here ? (sort.down ? " ↓" : " ↑") : ""),
      onclick: () => askBoard({ boardSort: { column: c.id, down: here ? !sort.down : Boolean(c.down) } }),
    });
    return el("th", { scope: "col", "aria-sort": here ? (sort.down ? "descending" : "ascending") : "none" }, button);
  });
  const at = boardScale();
  const body = rows.map((row) => el("tr", { "data-call": row.call }, ...BOARD_COLUMNS.map((c, i) => {
    const inner = c.show ? c.show(row, at) : [String(c.of(row)) || "–"];
    return i ? el("td", { className: c.id === "gain" ? "board-gain" : "" }, ...inner) : el("th", { scope: "row" }, ...inner);
  })));
  return el("table", { className: "board", "aria-label": $("board-count").textContent },
    el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
}

function percent(gain) {
  const size = Math.abs(gain * 100);
  const sign = gain > 0 ? "+" : gain < 0 ? "−" : "";
  return `${sign}${size < 10 ? size.toFixed(1) : Math.round(size).toLocaleString("en-US")} %`;
}

function boardGain(row, at) {
  const range = row.low !== null && row.high !== null ? ` (${percent(row.low)} to ${percent(row.high)})` : "";
  const text = row.gain === null ? "–" : percent(row.gain) + range;
  return [el("p", { text }), row.gain === null ? null : boardBar(row, at), row.why ? el("p", { className: "quiet small", text: row.why }) : null];
}

// One scale for all trials, by the logarithm of the ratio. Over a hundredfold is drawn as that.
function boardScale() {
  const place = (gain) => Math.log(Math.min(BAR.furthest, Math.max(1 / BAR.furthest, 1 + gain)));
  const known = settings.scoreboard.flatMap((row) => [row.gain, row.low, row.high]).filter((gain) => gain !== null);
  const places = [0, ...known.map(place)];
  const [low, high] = [Math.min(...places), Math.max(...places)];
  const room = BAR.cap + 1;
  return (gain) => room + ((place(gain) - low) / (high - low || 1)) * (BAR.width - 2 * room);
}

function boardBar(row, at) {
  const middle = BAR.height / 2;
  const bar = svg("svg", { class: `board-bar ${CALL_KINDS[row.call]}`, width: BAR.width, height: BAR.height, "aria-hidden": "true" });
  const upright = (x, half, kind) => svg("line", { class: kind, x1: x, x2: x, y1: middle - half, y2: middle + half }, bar);
  upright(at(0), middle, "none");
  if (row.low !== null && row.high !== null) {
    svg("line", { class: "span", x1: at(row.low), x2: at(row.high), y1: middle, y2: middle }, bar);
    upright(at(row.low), BAR.cap, "span");
    upright(at(row.high), BAR.cap, "span");
  }
  svg("circle", { cx: at(row.gain), cy: middle, r: 3.5 }, bar);
  return bar;
}

const flagText = (flag) => `${flag.name} ${flag.before} → ${flag.after}`;

function boardFlags(row) {
  return row.flags.length ? row.flags.map((flag) => el("p", {}, el("code", { text: flagText(flag) }))) : ["–"];
}

function boardEngine(row) {
  const rest = [row.model, row.hardware].filter(Boolean).join(" · ");
  return [row.engine, el("p", { className: "quiet small", text: rest })];
}

function boardCommit(row) {
  return [row.commit.slice(0, 12) || "–", row.dirty ? el("p", { className: "quiet small", text: "with local changes" }) : null];
}
