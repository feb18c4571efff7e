// Tables that grow page by page and sort by their heads: sources, tracks, what failed.

const PAGE = 25;
const MOST_LISTED = 100;

// columns: {title, value(item) for sorting, show(item) -> text or node, number, live}
function growing(holder, caption, items, columns, empty) {
  if (!items.length) {
    holder.replaceChildren(html("p", { class: "note" }, empty));
    return () => {};
  }
  let shownRows = PAGE;
  let order = items.slice();
  let sorted = { by: -1, up: true };
  const body = html("tbody");
  const more = html("button", { type: "button" });
  const told = html("span", { class: "note", role: "status" });
  const heads = columns.map((column, k) => {
    const button = html("button", { type: "button" }, column.title);
    const head = html("th", { scope: "col", class: column.number ? "number" : "" }, button);
    button.addEventListener("click", () => {
      const up = sorted.by === k ? !sorted.up : !column.number;
      sorted = { by: k, up };
      const sign = up ? 1 : -1;
      const value = column.value;
      order = items.slice().sort((a, b) => {
        const [va, vb] = [value(a), value(b)];
        if (typeof va === "string") return sign * va.localeCompare(vb, "en", { numeric: true });
        return Number.isNaN(va) - Number.isNaN(vb) || sign * (va - vb); // what has no number comes last
      });
      heads.forEach((h, j) => (j === k ? h.setAttribute("aria-sort", up ? "ascending" : "descending") : h.removeAttribute("aria-sort")));
      draw();
    });
    return head;
  });
  const cell = (column, item, k) =>
    html(k ? "td" : "th", k ? { class: column.number ? "number" : "" } : { scope: "row" }, column.show(item));
  function draw() {
    body.replaceChildren(...order.slice(0, shownRows).map((item) => html("tr", {}, ...columns.map((c, k) => cell(c, item, k)))));
    const left = order.length - shownRows;
    more.hidden = left <= 0;
    more.textContent = `Show ${count(Math.min(PAGE, left))} more`;
    told.textContent = `${count(Math.min(shownRows, order.length))} of ${count(order.length)} shown`;
  }
  function refresh() {
    order.slice(0, shownRows).forEach((item, r) => columns.forEach((column, k) => {
      if (column.live) body.rows[r].cells[k].textContent = column.show(item);
    }));
  }
  more.addEventListener("click", () => {
    shownRows += PAGE;
    draw();
  });
  const table = html("table", {}, html("caption", { class: "unseen" }, caption), html("thead", {}, html("tr", {}, ...heads)), body);
  holder.replaceChildren(html("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, table), html("div", { class: "pager" }, told, more));
  draw();
  return refresh;
}

function numberColumn(title, value, live, text = count) {
  return { title, value, show: (item) => text(value(item)), number: true, live };
}

function link(text, title, action) {
  const button = html("button", { type: "button", class: "plain", title }, text);
  button.addEventListener("click", action);
  return button;
}

function sourcesTable() {
  const items = data.sources.map((note, s) => ({ note, s }));
  const one = (d) => ({ s }) => totals.sources[3 * s + d];
  const columns = [
    {
      title: data.kind === "synth" ? "method" : "source",
      value: ({ s }) => sourceName(s),
      show: ({ s }) => link(sourceName(s), fullName(s), () => lookAt(s, "")),
    },
    { title: "status", value: ({ note }) => note.status, show: ({ note }) => note.status },
    numberColumn("frames", ({ note }) => note.frames ?? NaN, false, (v) => (Number.isNaN(v) ? "" : count(v))),
    numberColumn("faces", ({ s }) => rowsOfSource[s].length, false),
    ...WORDS.map((word, d) => numberColumn(word, one(d), true)),
    numberColumn("median", ({ s }) => median(rowsOfSource[s]), false, digits),
  ];
  return growing(byId("sources"), "Sources and what became of their faces", items, columns, "There are no sources.");
}

function tracksTable() {
  const items = [...tracks.values()].sort((a, b) => a.source - b.source || a.track - b.track);
  const ends = (t) => {
    let [from, to] = [Infinity, -Infinity];
    for (const i of t.rows) {
      from = Math.min(from, Number.isNaN(time[i]) ? Infinity : time[i]);
      to = Math.max(to, Number.isNaN(time[i]) ? -Infinity : time[i]);
    }
    return [from, to];
  };
  const sharpest = (t) => {
    const i = t.rows.find((row) => pictureOf(row));
    return i === undefined ? html("span", {}, "") : thumbnail(i, `Sharpest face of track ${t.track}`);
  };
  const columns = [
    { title: "track", value: (t) => t.track, show: (t) => link(`track ${t.track}`, fullName(t.source), () => lookAt(t.source, t.key)), number: true },
    { title: "sharpest", value: (t) => degree[t.rows[0]], show: sharpest },
    { title: "source", value: (t) => sourceName(t.source), show: (t) => sourceName(t.source) },
    { title: "from, to", value: (t) => ends(t)[0], show: (t) => (Number.isFinite(ends(t)[0]) ? ends(t).map(clock).join(" to ") : ""), number: true },
    numberColumn("faces", (t) => t.rows.length, false),
    ...WORDS.map((word, d) => numberColumn(word, (t) => countRows(t.rows)[d], true)),
    numberColumn("least degree", (t) => degree[t.rows[0]], false, digits),
    numberColumn("median", (t) => median(t.rows), false, digits),
  ];
  return growing(byId("tracks"), "Tracks and what became of their faces", items, columns, "The faces of these results are not tracked.");
}

// Sources that did not end well, those with the same message together.
function failuresTable() {
  const holder = byId("failures");
  const reasons = html("div");
  const failed = html("div");
  holder.replaceChildren(reasons, failed);
  const kinds = new Map();
  data.sources.forEach((note, s) => {
    if (note.status === "ok") return;
    let text = note.error || { no_face: "no face was found", unreadable: "the picture cannot be read", incomplete: "the run did not get to its end" }[note.status] || "";
    for (const name of [note.name, note.name.split(/[\\/]/).pop()]) {
      // A camera's name is a number, and that of a stream may end in one: frames and seconds are others.
      if (/^\d+$/.test(name)) text = text.replace(new RegExp(`^${name}\\b`), "\u2026");
      else if (name) text = text.replaceAll(name, "\u2026");
    }
    const key = `${note.status}: ${text}`;
    if (!kinds.has(key)) kinds.set(key, { status: note.status, text: shown(text), list: [] });
    kinds.get(key).list.push(s);
  });
  const lost = data.sources.reduce((sum, note) => sum + note.frames_failed, 0);
  const which = (kind) => {
    const names = kind.list.slice(0, MOST_LISTED).map((s) => html("li", {}, fullName(s)));
    const left = kind.list.length - names.length;
    if (left > 0) names.push(html("li", {}, `and ${count(left)} more`));
    return html("details", {}, html("summary", {}, plural(kind.list.length, "source")), html("ul", {}, ...names));
  };
  const columns = [
    { title: "how it ended", value: (k) => k.status, show: (k) => k.status },
    { title: "message", value: (k) => k.text, show: (k) => k.text },
    { title: "which", value: (k) => k.list.length, show: which, number: true },
  ];
  growing(failed, "Sources that failed", [...kinds.values()].sort((a, b) => b.list.length - a.list.length), columns, "No source failed.");
  if (lost) failed.append(html("p", {}, `${plural(lost, "frame")} could not be decoded.`));
  const rows = [
    ["blurred: rejected", () => totals.reasons[BLUR] - totals.decisions[REVIEW]],
    ["blurred: near the threshold, to review", () => totals.decisions[REVIEW]],
    ["too small", () => totals.reasons[TOO_SMALL]],
    ["not the best shot of its track", () => totals.reasons[NOT_BEST]],
  ].map(([title, value]) => ({ title, value }));
  return growing(reasons, "Why faces were not simply kept", rows, [
    { title: "why a face is not simply kept", value: (r) => r.title, show: (r) => r.title },
    numberColumn("faces", (r) => r.value(), true),
  ], "");
}
