// What ties it together: the controls, and what follows from them.

let refreshers = [];
let said = 0;

function say(text) {
  byId("live").textContent = text;
}

function setRule(change) {
  Object.assign(rule, change);
  byId("slider").value = rule.threshold;
  for (const [id, key] of [["exact", "threshold"], ["review", "review"], ["min-face", "min_face"]]) {
    if (document.activeElement !== byId(id)) byId(id).value = rule[key];
  }
  update();
}

function update() {
  decideAll();
  const d = totals.decisions;
  NAMES.forEach((name, k) => {
    byId(`n-${name}`).textContent = count(d[k]);
    byId(`p-${name}`).textContent = share(d[k], N);
  });
  const spoken = `Threshold ${rule.threshold}: ${count(d[0])} kept, ${count(d[1])} review, ${count(d[2])} rejected`;
  byId("slider").setAttribute("aria-valuetext", spoken);
  clearTimeout(said);
  said = setTimeout(() => say(spoken), 400); // once the slider rests, not at every step
  byId("command").textContent = commandLine(byId("shell").value);
  against();
  histogram();
  const ticked = NAMES.every((name) => byId(`show-${name}`).checked);
  if (ticked) dressAll();
  else lookAgain();
  scope();
  if (active >= 0) showDetail(view.rows[active]);
  refreshers.forEach((refresh) => refresh());
}

// How the chosen rule differs from what the run decided.
function against() {
  if (!data.decided) {
    byId("against").textContent = "";
    return;
  }
  let changed = 0;
  const run = [0, 0, 0];
  for (let i = 0; i < N; i++) {
    run[faces.decision[i]]++;
    changed += faces.decision[i] !== decision[i];
  }
  const was = WORDS.map((word, k) => `${count(run[k])} ${word}`).join(", ");
  byId("against").textContent = `The run decided with threshold ${data.rule.threshold}: ${was}. ` +
    `${plural(changed, "face")} would be decided otherwise now.`;
}

// The part that is looked at: its counts and its timeline.
function scope() {
  const counts = countRows(view.scope);
  const name = view.track ? `track ${tracks.get(view.track).track} of ${sourceName(view.source)}`
    : view.source >= 0 ? sourceName(view.source) : "all sources";
  byId("scope").textContent = `In ${name}: ${plural(view.scope.length, "face")}, ` +
    WORDS.map((word, k) => `${count(counts[k])} ${word}`).join(", ") + ".";
  timelines();
}

const MOST_OPTIONS = 500;
function fillSelects() {
  const option = (value, text) => html("option", { value }, text);
  const select = byId("source");
  if (!select.options.length) {
    select.append(option("", "all sources"));
    data.sources.slice(0, MOST_OPTIONS).forEach((_, s) => {
      if (rowsOfSource[s].length) select.append(option(s, sourceName(s)));
    });
  }
  const value = view.source < 0 ? "" : String(view.source);
  if (![...select.options].some((o) => o.value === value)) select.append(option(value, sourceName(view.source)));
  select.value = value;
  const own = view.source < 0 ? [] : [...tracks.values()].filter((t) => t.source === view.source);
  own.sort((a, b) => a.track - b.track);
  byId("track").replaceChildren(option("", "all tracks"), ...own.map((t) => option(t.key, `track ${t.track}`)));
  byId("track").disabled = !own.length;
  byId("track").value = view.track;
}

function look(source, track) {
  Object.assign(view, { source, track });
  active = -1;
  box.scrollTop = 0;
  fillSelects();
  lookAgain();
  showDetail();
  scope();
}

function lookAt(source, track) {
  look(source, track);
  byId("faces").scrollIntoView();
  byId("source").focus({ preventScroll: true });
}

function numberField(id, key, most) {
  const field = byId(id);
  const take = () => {
    const value = field.value.trim() === "" ? NaN : Number(field.value);
    const good = value >= 0 && value <= most && Number.isFinite(value);
    field.setAttribute("aria-invalid", String(!good));
    if (good) setRule({ [key]: value });
  };
  field.addEventListener("input", take);
  field.addEventListener("blur", () => {
    field.value = rule[key];
    field.removeAttribute("aria-invalid");
  });
}

function start() {
  byId("theme").addEventListener("change", (event) => (document.documentElement.dataset.theme = event.target.value));
  byId("slider").addEventListener("input", (event) => setRule({ threshold: Number(event.target.value) }));
  numberField("exact", "threshold", 1);
  numberField("review", "review", 1);
  numberField("min-face", "min_face", Number.MAX_VALUE);
  byId("reset").addEventListener("click", () => setRule(data.rule));
  byId("reset").hidden = !data.decided;
  byId("best-note").hidden = !faces.not_best.length;
  if (/^Win/.test(navigator.platform)) byId("shell").value = "ps";
  byId("shell").addEventListener("change", update);
  byId("copy").addEventListener("click", copyCommand);
  byId("save-list").addEventListener("click", saveList);
  byId("save-list").hidden = !data.command.listed;
  byId("command-note").textContent = data.command.note;
  byId("source").addEventListener("change", (event) => look(event.target.value === "" ? -1 : Number(event.target.value), ""));
  byId("track").addEventListener("change", (event) => look(view.source, event.target.value));
  byId("order").addEventListener("change", (event) => {
    view.order = event.target.value;
    active = -1;
    box.scrollTop = 0;
    lookAgain();
  });
  for (const name of NAMES) byId(`show-${name}`).addEventListener("change", lookAgain);
  byId("border").addEventListener("click", goToThreshold);
  box.addEventListener("scroll", drawTiles, { passive: true });
  box.addEventListener("keydown", listKeys);
  addEventListener("beforeprint", fillSheet);
  new ResizeObserver(() => {
    measure();
    layOut();
    histogram();
    scope();
  }).observe(document.querySelector("main"));
  measure();
  decideAll();
  refreshers = [sourcesTable(), tracksTable(), failuresTable()];
  look(-1, "");
  setRule({});
  document.documentElement.dataset.ready = "yes";
}

start();
