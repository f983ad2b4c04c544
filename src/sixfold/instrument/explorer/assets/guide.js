// Which strategy? A constraint or a symptom, and the techniques that answer it. Order and words come
// with the page, from the strategy cards: nothing is decided here.

const FIRST_QUESTION = "TTFT spikes at peak";
const KINDS_ASKED = { complaint: "Symptom", constraint: "Constraint" };

// Nothing of it depends on points: the answer is drawn anew only when the question has changed, and
// the controls never, so that a name can be typed into them.
function drawGuide() {
  $("guide").open = Boolean(state.guide);
  const asked = `${state.guide} ${state.guideEngine}`;
  if (!state.guide || $("guide-answer").dataset.asked === asked) return;
  if (!$("guide-question")) $("guide-count").before(guideControls());
  $("guide-question").value = state.guide;
  $("guide-engine").value = state.guideEngine;
  $("guide-answer").dataset.asked = asked;
  const question = settings.guide.questions.find((q) => q.text === state.guide);
  const rows = question.matches.map(guideRow).filter(Boolean);
  const where = state.guideEngine ? ` that ${state.guideEngine} has a switch for` : "";
  const count = `${rows.length || "no"} ${rows.length === 1 ? "technique" : "techniques"}${where}`;
  $("guide-count").textContent = `${question.text}: ${count}${rows.length > 1 ? ", best first" : ""}`;
  $("guide-answer").replaceChildren(...(rows.length ? [guideTable(question, rows)] : []), guideAdoption());
}

function toggleGuide() {
  if ($("guide").open === Boolean(state.guide)) return;
  state.guide = $("guide").open ? FIRST_QUESTION : "";
  remember();
  drawGuide();
}

function askGuide(changes) {
  Object.assign(state, changes);
  remember();
  drawGuide();
}

function guideControls() {
  const asked = select("Constraint or symptom", [], "", (text) => askGuide({ guide: text }), "guide-question");
  for (const [kind, label] of Object.entries(KINDS_ASKED)) {
    const own = settings.guide.questions.filter((q) => q.kind === kind);
    asked.append(el("optgroup", { label }, ...own.map((q) => el("option", { value: q.text, text: q.text }))));
  }
  const engines = [["", "any engine"], ...settings.guide.engines.map((e) => [e, e])];
  const engine = select("Engine that has a switch", engines, "", (name) => askGuide({ guideEngine: name }), "guide-engine");
  return el("div", { className: "guide-controls" }, el("label", {}, "What hurts? ", asked), el("label", {}, "Switches of ", engine));
}

const techniqueOf = (name) => settings.guide.techniques.find((t) => t.name === name);
const isSwitched = (t) => !state.guideEngine || t.switches.some((s) => s.engine === state.guideEngine);

function guideRow({ name, why }) {
  const t = techniqueOf(name);
  return isSwitched(t) ? { ...t, why } : null;
}

function guideTable(question, rows) {
  const first = question.kind === "complaint" ? "The answer" : "Relieves";
  const columns = ["Technique", first, "Most effective", "Not when", "Costs", "Proven by", "Switches"];
  const cell = (i, ...inner) => el("td", { role: "cell", "data-name": columns[i] }, ...inner);
  const body = rows.map((t) => el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader" }, t.name, el("p", { className: "badges" },
      badge(t.status, t.status === "built" ? "good" : "soft"), badge(`stage ${t.stage}: ${t.stage_name}`, "soft"))),
    cell(1, t.why), cell(2, t.effective_when), cell(3, t.not_when), cell(4, t.costs), cell(5, t.metric), cell(6, ...guideSwitches(t))));
  const head = columns.map((text) => el("th", { scope: "col", role: "columnheader", text }));
  return el("table", { className: "guide-table", role: "table", "aria-label": $("guide-count").textContent },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)), el("tbody", { role: "rowgroup" }, ...body));
}

function guideSwitches(t) {
  const shown = t.switches.filter((s) => !state.guideEngine || s.engine === state.guideEngine);
  if (!shown.length) return ["none of the engines covered here has one"];
  return shown.map((s) => el("p", {}, el("strong", { text: s.engine }), " ", el("code", {}, ...words(s.words))));
}

function guideAdoption() {
  const steps = settings.guide.adoption.map(({ name, what, techniques }) => {
    const names = techniques.filter((n) => isSwitched(techniqueOf(n)));
    return el("li", {}, el("strong", { text: name }), el("span", { className: "quiet", text: ` ${what} ` }), names.join(", ") || "none");
  });
  return el("div", {}, el("h3", { text: "The order in which teams adopt them" }), el("ol", { className: "guide-order" }, ...steps));
}
