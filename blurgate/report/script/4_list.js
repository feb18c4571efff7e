// The faces: a list of any length of which only the tiles in sight exist.

const TILE = { w: 92, h: 116 };
const SPARE_ROWS = 2;
const box = byId("list");
const tiles = byId("tiles");
const nodes = new Map(); // place in the view -> tile
const view = { source: -1, track: "", order: "sharp", rows: [], scope: [] };
let active = -1; // place in the view
let columns = 1;
let stride = TILE.w; // from one tile to the next: the width is used up
let pictures = null; // row -> base64 of its JPEG

function pictureOf(i) {
  if (!pictures) {
    pictures = new Map();
    const { rows, jpeg } = JSON.parse(byId("thumbs").textContent);
    rows.forEach((row, k) => pictures.set(row, jpeg[k]));
  }
  return pictures.get(i);
}

function thumbnail(i, alt) {
  const jpeg = pictureOf(i);
  if (!jpeg) return html("i", {}, "no picture");
  const image = html("img", { alt, decoding: "async" });
  image.src = `data:image/jpeg;base64,${jpeg}`;
  return image;
}

function describe(i) {
  const at = Number.isNaN(time[i]) ? "" : `, at ${clock(time[i])}`;
  const track = faces.track[i] === null ? "" : `, track ${faces.track[i]}`;
  return `${WORDS[decision[i]]}, degree ${digits(degree[i])}, ${sourceName(sourceOf[i])}${at}${track}`;
}

// What is in view: one source or all, one track or all, the ticked decisions, in an order.
function lookAgain() {
  const kept = active >= 0 ? view.rows[active] : -1;
  const ticked = NAMES.map((name) => byId(`show-${name}`).checked);
  if (view.track) view.scope = tracks.get(view.track).rows;
  else if (view.source >= 0) view.scope = rowsOfSource[view.source];
  else view.scope = all;
  const rows = ticked.every(Boolean) ? view.scope.slice() : view.scope.filter((i) => ticked[decision[i]]);
  if (view.order === "blurred") rows.reverse();
  if (view.order === "time") rows.sort(byTime);
  view.rows = rows;
  active = kept < 0 ? -1 : rows.indexOf(kept);
  for (const node of nodes.values()) node.remove();
  nodes.clear();
  layOut();
  if (active < 0) box.removeAttribute("aria-activedescendant");
  box.setAttribute("aria-label", `${plural(rows.length, "face")}; arrow keys move`);
}
const all = Array.from({ length: N }, (_, i) => i);

// A new threshold moves no tile.
function dressAll() {
  for (const [place, node] of nodes) dress(node, place);
}

function layOut() {
  const width = tiles.clientWidth || 300;
  columns = Math.max(1, Math.floor(width / TILE.w));
  stride = width / columns;
  tiles.style.height = `${Math.ceil(view.rows.length / columns) * TILE.h + 4}px`;
  drawTiles();
}

function drawTiles() {
  const first = Math.max(0, Math.floor(box.scrollTop / TILE.h) - SPARE_ROWS) * columns;
  const rowsInSight = Math.ceil((box.clientHeight || 500) / TILE.h) + 2 * SPARE_ROWS + 1;
  const last = Math.min(view.rows.length, first + rowsInSight * columns);
  for (const [place, node] of nodes) {
    if (place < first || place >= last) {
      node.remove();
      nodes.delete(place);
    }
  }
  for (let place = first; place < last; place++) {
    let node = nodes.get(place);
    if (!node) {
      node = tile(place);
      nodes.set(place, node);
      tiles.append(node);
    }
    const [x, y] = [(place % columns) * stride + (stride - 88) / 2, Math.floor(place / columns) * TILE.h + 2];
    node.style.transform = `translate(${x}px, ${y}px)`;
    dress(node, place);
  }
}

function tile(place) {
  const i = view.rows[place];
  const node = html("div", { role: "option", id: `face-${i}` }, thumbnail(i, ""), html("span"));
  node.addEventListener("click", () => go(place));
  return node;
}

// What a new threshold changes on a tile.
function dress(node, place) {
  const i = view.rows[place];
  node.className = `tile ${NAMES[decision[i]]}`;
  node.lastChild.textContent = `${digits(degree[i])} ${NAMES[decision[i]]}`;
  node.setAttribute("aria-selected", String(place === active));
  node.setAttribute("aria-posinset", place + 1);
  node.setAttribute("aria-setsize", view.rows.length);
  node.setAttribute("aria-label", describe(i));
}

function go(place) {
  if (!view.rows.length) return;
  active = Math.min(view.rows.length - 1, Math.max(0, place));
  const top = Math.floor(active / columns) * TILE.h;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + TILE.h > box.scrollTop + box.clientHeight) box.scrollTop = top + TILE.h - box.clientHeight + 6;
  drawTiles();
  box.setAttribute("aria-activedescendant", `face-${view.rows[active]}`);
  showDetail(view.rows[active]);
}

function choose(i) {
  const place = view.rows.indexOf(i);
  if (place >= 0) go(place);
}

function goToThreshold() {
  if (view.order === "time") {
    view.order = byId("order").value = "sharp";
    lookAgain();
  }
  const over = (i) => degree[i] > rule.threshold;
  const place = view.rows.findIndex((i) => (view.order === "sharp" ? over(i) : !over(i)));
  go(place < 0 ? view.rows.length - 1 : place);
  box.focus();
}

function listKeys(event) {
  const page = Math.max(1, Math.floor(box.clientHeight / TILE.h)) * columns;
  const steps = {
    ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page,
    Home: -Infinity, End: Infinity,
  };
  if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (active < 0) go(event.key === "End" ? Infinity : 0);
  else go(active + steps[event.key]);
}

function showDetail(i) {
  const holder = byId("detail");
  if (i === undefined) {
    holder.replaceChildren(html("p", { class: "note" }, "Choose a face to see where it is from."));
    return;
  }
  const run = data.decided ? NAMES[faces.decision[i]] + (faces.reason[i] ? ` (${REASONS[faces.reason[i]]})` : "") : null;
  const number = (v, unit = "") => (v === null || Number.isNaN(v) ? null : `${v}${unit}`);
  const rows = [
    ["degree", String(degree[i])],
    ["now", NAMES[decision[i]] + (why[i] ? ` (${REASONS[why[i]]})` : "")],
    ["in the run", run],
    [data.kind === "synth" ? "method" : "source", fullName(sourceOf[i])],
    ["time", Number.isNaN(time[i]) ? null : `${time[i]} s`],
    ["frame", number(faces.frame[i])],
    ["face", number(faces.face[i])],
    ["track", number(faces.track[i])],
    ["size", number(px[i], " px")],
    ["box", faces.box[i] ? faces.box[i].join(", ") : null],
    ["detector", number(faces.det[i])],
    ["picture", faces.crop[i] ? shown(faces.crop[i]) : null],
  ].filter(([, value]) => value !== null);
  const list = html("dl", {}, ...rows.map(([k, v]) => html("div", {}, html("dt", {}, k), html("dd", {}, v))));
  holder.replaceChildren(thumbnail(i, `Face: ${describe(i)}`), list);
}

// Paper has no scroll bar: a sheet of faces, evenly taken from what is in view.
const ON_PAPER = 56;
function fillSheet() {
  const n = Math.min(ON_PAPER, view.rows.length);
  const places = Array.from({ length: n }, (_, k) => (n > 1 ? Math.round((k * (view.rows.length - 1)) / (n - 1)) : 0));
  byId("sheet").replaceChildren(...places.map((place) => {
    const i = view.rows[place];
    const label = html("span", {}, `${digits(degree[i])} ${NAMES[decision[i]]}`);
    return html("div", { class: NAMES[decision[i]] }, thumbnail(i, ""), label);
  }));
}
