// Points as a run appends them: asks the page's own server each second. Only in a served page.

const POLL_MS = 1000;
const ANSWER_MS = 8000;

async function follow(after) {
  let ended = false; // a server that goes away after a run's end is no news
  for (;;) {
    const answer = await askAfter(after);
    if (answer) {
      merge(answer.points);
      after = answer.next;
      ended = !answer.running && !answer.more;
    }
    sayLive(ended ? "the run has ended" : answer ? "live" : "connection lost");
    if (!answer || !answer.more) await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

async function askAfter(after) {
  try {
    const response = await fetch(`/points?after=${after}`, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    const answer = response.ok ? await response.json() : null;
    return answer && Array.isArray(answer.points) && Number.isSafeInteger(answer.next) ? answer : null;
  } catch {
    return null;
  }
}

// Spoken when it changes, not with each answer.
function sayLive(text) {
  if ($("live").textContent === text) return;
  $("live").hidden = false;
  $("live").textContent = text;
  $("live").className = `badge ${{ live: "good", "connection lost": "bad" }[text] || ""}`;
}

// New points come in; filters, selection, cursor and scrolling stay.
function merge(points) {
  const known = new Set(app.points.map((p) => p.id));
  const added = points.filter((p) => !pointError(p) && !known.has(p.id)).map(filled);
  if (!added.length) return;
  const first = !app.points.length;
  const under = app.drawn[app.cursor] && app.drawn[app.cursor].key;
  setPoints([...app.points, ...added]);
  if (first) start();
  else if (!state.objective.metric) defaultState(app.groups, app.metrics); // only failures so far
  const left = $("table").firstElementChild ? $("table").firstElementChild.scrollLeft : 0;
  redraw(!first);
  $("table").firstElementChild.scrollLeft = left;
  app.cursor = app.drawn.findIndex((g) => g.key === under);
  if (under) showTip(null, null);
}
