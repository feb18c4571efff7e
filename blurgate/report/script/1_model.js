"use strict";
// What the page knows, and the rule. Nothing here touches the page.
// Every text of the results reaches the page as text only: through textContent, or an attribute's
// value. No markup is ever made out of strings.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const faces = data.faces;
const N = faces.degree.length; // sorted from sharp to blurred
const numbers = (list) => Float64Array.from(list, (v) => (v === null ? NaN : v));
const degree = numbers(faces.degree);
const px = numbers(faces.px);
const time = numbers(faces.time);
const sourceOf = Int32Array.from(faces.source);
const NAMES = data.decisions; // keep, review, reject
const WORDS = ["kept", "review", "rejected"];
const REASONS = data.reasons; // "", blur, too_small, not_best_shot
const [KEEP, REVIEW, REJECT] = [0, 1, 2];
const [NO_REASON, BLUR, TOO_SMALL, NOT_BEST] = [0, 1, 2, 3];
const notBest = new Uint8Array(N);
for (const i of faces.not_best) notBest[i] = 1;

const rule = { ...data.rule };
const decision = new Uint8Array(N);
const why = new Uint8Array(N);
const totals = {
  decisions: [0, 0, 0],
  reasons: [0, 0, 0, 0],
  sources: new Int32Array(3 * data.sources.length),
};

// An end of the review band, as it reads and not as binary numbers add up.
function end(width) {
  return Number((rule.threshold + width).toFixed(9));
}

// The rule of blurgate/stages.py, on the same numbers in the same order of operations.
function decide(i) {
  why[i] = NO_REASON;
  decision[i] = REJECT;
  if (notBest[i]) why[i] = NOT_BEST;
  else if (px[i] < rule.min_face) why[i] = TOO_SMALL; // no size (NaN) is never too small
  else if (rule.review > 0 && end(-rule.review) <= degree[i] && degree[i] <= end(rule.review)) {
    decision[i] = REVIEW;
    why[i] = BLUR;
  } else if (degree[i] > rule.threshold) why[i] = BLUR;
  else decision[i] = KEEP;
}

function decideAll() {
  totals.decisions.fill(0);
  totals.reasons.fill(0);
  totals.sources.fill(0);
  for (let i = 0; i < N; i++) {
    decide(i);
    totals.decisions[decision[i]]++;
    totals.reasons[why[i]]++;
    totals.sources[3 * sourceOf[i] + decision[i]]++;
  }
}

const rowsOfSource = data.sources.map(() => []);
const tracks = new Map(); // "source:track" -> {source, track, rows}
for (let i = 0; i < N; i++) {
  rowsOfSource[sourceOf[i]].push(i);
  const track = faces.track[i];
  if (track === null) continue;
  const key = `${sourceOf[i]}:${track}`;
  if (!tracks.has(key)) tracks.set(key, { key, source: sourceOf[i], track, rows: [] });
  tracks.get(key).rows.push(i);
}

// Rows are in the order of their degrees, so the middle of a list of rows is its median.
function median(rows) {
  const middle = rows.length >> 1;
  if (!rows.length) return NaN;
  return rows.length % 2 ? degree[rows[middle]] : (degree[rows[middle - 1]] + degree[rows[middle]]) / 2;
}

function countRows(rows) {
  const counts = [0, 0, 0];
  for (const i of rows) counts[decision[i]]++;
  return counts;
}

function byTime(a, b) {
  return (
    sourceOf[a] - sourceOf[b] ||
    (faces.frame[a] ?? 0) - (faces.frame[b] ?? 0) ||
    (faces.face[a] ?? 0) - (faces.face[b] ?? 0) ||
    a - b
  );
}

const count = (n) => n.toLocaleString("en");
const share = (n, of) => (of ? `${((100 * n) / of).toFixed(1)} %` : "");
const digits = (v, n = 3) => (Number.isNaN(v) ? "" : v.toFixed(n));
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

// A name as it may be shown: bytes that are no text, line ends and marks that turn the direction
// of writing would make it look like another name.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
// Lone surrogates U+DC80 to U+DCFF stand for stray bytes of a file name.
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const isByte = (code) => code >= 0xdc80 && code <= 0xdcff;
const hex = (code, width) => code.toString(16).padStart(width, "0");
function shown(name) {
  return String(name)
    .replace(LONE, (c) => {
      const code = c.charCodeAt(0);
      return isByte(code) ? `\\x${hex(code - 0xdc00, 2)}` : "\ufffd";
    })
    .replace(UNSEEN, (c) => `\\u${hex(c.charCodeAt(0), 4)}`);
}

// A source's name without its folders, where that tells it from the others.
const tail = (name) => name.replace(/[\\/]+$/, "").split(/[\\/]/).pop() || name;
const tails = new Map();
for (const { name } of data.sources) tails.set(tail(name), (tails.get(tail(name)) || 0) + 1);
const fullName = (s) => shown(data.sources[s].name);
function sourceName(s) {
  const { name } = data.sources[s];
  return shown(name.includes("://") || tails.get(tail(name)) > 1 ? name : tail(name));
}
