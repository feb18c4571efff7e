// The distribution and the timeline, as SVG in the page's own pixels.

const SVG = "http://www.w3.org/2000/svg";
const BINS = 50;
const HEIGHT = 230;
const EDGE = { left: 52, right: 12, top: 14, bottom: 38 };

function svg(tag, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
}

function html(tag, attributes = {}, ...content) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else node.setAttribute(name, value);
  }
  node.append(...content.map((c) => (c instanceof Node ? c : String(c))));
  return node;
}

function niceStep(most, lines) {
  for (let step = 10 ** Math.floor(Math.log10(most / lines)); ; step *= 10) {
    for (const factor of [1, 2, 5]) if (most <= lines * factor * step) return factor * step;
  }
}

// All charts are equally wide. Asked for once per size: the answer makes the browser lay out anew.
let chartWidth = 600;
function measure() {
  chartWidth = Math.max(200, byId("histogram").clientWidth);
}

// A chart's frame: axes, grid, and functions from values to pixels.
function frame(holder, label, x, y) {
  const width = chartWidth;
  const inner = { w: width - EDGE.left - EDGE.right, h: HEIGHT - EDGE.top - EDGE.bottom };
  const across = (v) => EDGE.left + ((v - x.from) / (x.to - x.from)) * inner.w;
  const up = (v) => EDGE.top + inner.h * (1 - v / y.to);
  const root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  for (let v = 0; v <= y.to * 1.0001; v += y.step) {
    root.append(svg("path", { class: "grid", d: `M${EDGE.left} ${up(v)}H${width - EDGE.right}` }));
    root.append(svg("text", { class: "y", x: EDGE.left - 6, y: up(v) }, y.text(v)));
  }
  const floor = HEIGHT - EDGE.bottom;
  root.append(svg("path", { class: "axis", d: `M${EDGE.left} ${EDGE.top}V${floor}H${width - EDGE.right}` }));
  for (let v = x.from; v <= x.to + x.step * 1e-6; v += x.step) {
    root.append(svg("path", { class: "axis", d: `M${across(v)} ${floor}v4` }));
    root.append(svg("text", { class: "x", x: across(v), y: floor + 17 }, x.text(v)));
  }
  root.append(svg("text", { class: "x", x: EDGE.left + inner.w / 2, y: HEIGHT - 4 }, x.label));
  holder.replaceChildren(root);
  return { root, across, up, width, inner, floor };
}

const binOf = (v) => Math.min(BINS - 1, Math.floor(v * BINS + 1e-9)); // 0.58 * 50 is a little below 29
const binText = (b) => `${(b / BINS).toFixed(2)} to ${((b + 1) / BINS).toFixed(2)}`;

function histogram() {
  const counts = NAMES.map(() => new Int32Array(BINS));
  for (let i = 0; i < N; i++) counts[decision[i]][binOf(degree[i])]++;
  let most = 1;
  for (let b = 0; b < BINS; b++) most = Math.max(most, counts[0][b] + counts[1][b] + counts[2][b]);
  const step = Math.max(1, niceStep(most, 4));
  const x = { from: 0, to: 1, step: 0.1, text: (v) => v.toFixed(1), label: `${data.axis}: 0 sharp, 1 unusable` };
  const y = { to: step * Math.ceil(most / step), step, text: (v) => count(v) };
  const middle = N ? digits(median(all)) : "none";
  const label = `Distribution of ${plural(N, "degree")}: median ${middle}, threshold ${rule.threshold}`;
  const holder = byId("histogram");
  const chart = frame(holder, label, x, y);
  const below = new Int32Array(BINS);
  NAMES.forEach((name, d) => {
    let path = "";
    for (let b = 0; b < BINS; b++) {
      const n = counts[d][b];
      if (!n) continue;
      const [left, right] = [chart.across(b / BINS), chart.across((b + 1) / BINS)];
      path += `M${left} ${chart.up(below[b])}V${chart.up(below[b] + n)}H${right}V${chart.up(below[b])}Z`;
      below[b] += n;
    }
    chart.root.append(svg("path", { class: name, d: path }));
  });
  ruleLines(chart, true);
  for (let b = 0; b < BINS; b++) {
    const bar = svg("rect", {
      class: "hover", x: chart.across(b / BINS), y: EDGE.top, width: chart.inner.w / BINS, height: chart.inner.h,
    });
    bar.append(svg("title", {}, `${binText(b)}: ${count(below[b])}`));
    chart.root.append(bar);
  }
  chart.root.addEventListener("click", (event) => {
    const box = chart.root.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * chart.width;
    const value = (at - EDGE.left) / chart.inner.w;
    setRule({ threshold: Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000 });
  });
  byId("histogram-title").textContent = `${plural(N, "face")} by ${data.axis}`;
  fold(byId("histogram-table"), ["from, to", ...WORDS], () =>
    Array.from(below, (n, b) => (n ? [binText(b), ...NAMES.map((_, d) => count(counts[d][b]))] : null)),
  );
}

// The threshold as a line and the review width as a band, over degrees across or up.
function ruleLines(chart, across) {
  const { threshold, review } = rule;
  const [low, high] = [Math.max(0, threshold - review), Math.min(1, threshold + review)];
  const place = across ? chart.across : chart.up;
  const [from, to] = [place(low), place(high)];
  const near = across
    ? { x: from, y: EDGE.top, width: to - from, height: chart.inner.h }
    : { x: EDGE.left, y: to, width: chart.inner.w, height: from - to };
  if (review > 0) chart.root.append(svg("rect", { class: "near", ...near }));
  const d = across
    ? `M${place(threshold)} ${EDGE.top}V${chart.floor}`
    : `M${EDGE.left} ${place(threshold)}h${chart.inner.w}`;
  chart.root.append(svg("path", { class: "rule", d }));
}

function clock(seconds) {
  const s = Math.abs(seconds) < 100 ? +seconds.toFixed(2) : Math.round(seconds);
  if (s < 60) return `${s} s`;
  const rest = String(Math.floor(s % 60)).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${rest}` : `${Math.floor(s / 3600)}:${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}:${rest}`;
}

// Degrees over time: of the chosen source or track, or of the first sources that have times.
const MOST_TIMELINES = 4;
const timedSources = [];
data.sources.forEach((_, s) => {
  if (rowsOfSource[s].some((i) => !Number.isNaN(time[i]))) timedSources.push(s);
});

function timelines() {
  const chosen = view.source >= 0 ? timedSources.filter((s) => s === view.source) : timedSources.slice(0, MOST_TIMELINES);
  const holder = byId("timelines");
  const figures = chosen.map((s) => holder.querySelector(`[data-source="${s}"]`) || timelineFigure(s));
  if ([...holder.children].some((child, k) => child !== figures[k]) || holder.children.length !== figures.length) {
    holder.replaceChildren(...figures);
  }
  figures.forEach((figure, k) => {
    const s = chosen[k];
    const track = view.track ? `track ${tracks.get(view.track).track} of ` : "";
    timeline(figure, s, view.source >= 0 ? view.scope : rowsOfSource[s], track + sourceName(s));
  });
  const left = timedSources.length - chosen.length;
  byId("more-timelines").textContent = view.source < 0 && left > 0
    ? `${plural(left, "more source")} with times; choose one above to see its timeline.` : "";
}

function timelineFigure(s) {
  const table = html("details", {}, html("summary", {}, "as a table"), html("div", { class: "wide" }));
  return html("figure", { class: "chart", "data-source": s }, html("figcaption"), html("div", { class: "plot" }), table);
}

// What of a timeline does not depend on the rule: its rows, its axis, and its dots, one per pixel.
const prepared = new Map(); // figure -> {key, ...}
function prepare(figure, source, rows) {
  const key = `${chartWidth} ${view.track}`;
  const old = prepared.get(figure);
  if (old && old.key === key) return old;
  const timed = rows.filter((i) => !Number.isNaN(time[i]));
  let [from, to] = [Infinity, -Infinity];
  for (const i of rowsOfSource[source]) {
    if (time[i] < from) from = time[i];
    if (time[i] > to) to = time[i];
  }
  if (to - from < 1e-3) to = from + 1;
  const step = niceStep(to - from, chartWidth < 500 ? 4 : 8);
  const x = {
    from: Math.floor(from / step) * step, to: Math.ceil(to / step) * step, step, text: clock, label: "time in the source",
  };
  const made = { key, timed, x, dots: null };
  prepared.set(figure, made);
  return made;
}

function dotsOf(made, chart) {
  if (made.dots) return made.dots;
  const seen = new Set();
  made.dots = [];
  for (const i of made.timed) {
    const [left, top] = [Math.round(chart.across(time[i])), Math.round(chart.up(degree[i]))];
    const place = left * HEIGHT + top;
    if (seen.has(place)) continue;
    seen.add(place);
    made.dots.push([i, `M${left} ${top}h.01`]);
  }
  return made.dots;
}

function timeline(figure, source, rows, name) {
  const made = prepare(figure, source, rows);
  const { timed, x } = made;
  const y = { to: 1, step: 0.2, text: (v) => v.toFixed(1) };
  const counts = countRows(timed);
  const parts = WORDS.map((word, d) => `${count(counts[d])} ${word}`).join(", ");
  const chart = frame(figure.querySelector(".plot"), `Degrees over time, ${name}: ${parts}`, x, y);
  const paths = [[], [], []];
  for (const [i, dot] of dotsOf(made, chart)) paths[decision[i]].push(dot);
  const dots = svg("g", { class: "dots" });
  paths.forEach((list, k) => list.length && dots.append(svg("path", { class: NAMES[k], d: list.join("") })));
  chart.root.append(dots);
  ruleLines(chart, false);
  chart.root.addEventListener("click", (event) => {
    const area = chart.root.getBoundingClientRect();
    const at = [event.clientX - area.left, event.clientY - area.top];
    let [best, least] = [-1, Infinity];
    for (const i of timed) {
      const away = (chart.across(time[i]) - at[0]) ** 2 + (chart.up(degree[i]) - at[1]) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    if (best >= 0 && least < 400) choose(best);
  });
  figure.querySelector("figcaption").textContent = `Degrees over time: ${name}`;
  fold(figure.querySelector("details"), ["from", ...WORDS, "median"], () => {
    const spans = new Map();
    const width = x.step / 2;
    for (const i of timed) {
      const span = Math.floor(time[i] / width);
      if (!spans.has(span)) spans.set(span, []);
      spans.get(span).push(i);
    }
    return [...spans].sort((a, b) => a[0] - b[0])
      .map(([span, list]) => [clock(span * width), ...countRows(list).map(count), digits(median(list))]);
  });
}

// A table that is made when it is unfolded, and again at each change while it is open.
function fold(holder, head, make) {
  const fill = () => {
    if (!holder.open) return;
    const rows = make().filter(Boolean);
    const body = rows.map(([first, ...rest]) =>
      html("tr", {}, html("th", { scope: "row" }, first), ...rest.map((v) => html("td", { class: "number" }, v))));
    const titles = html("tr", {}, ...head.map((title, k) => html("th", { scope: "col", class: k ? "number" : "" }, title)));
    holder.querySelector(".wide").replaceChildren(
      html("table", { "aria-label": holder.parentNode.querySelector("figcaption").textContent }, html("thead", {}, titles), html("tbody", {}, ...body)));
  };
  holder.ontoggle = fill;
  fill();
}
