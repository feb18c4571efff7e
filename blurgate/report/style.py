"""How the pages look: light and dark by the reader's system, one column on a phone."""

from __future__ import annotations

from typing import Final

_DARK: Final = """
    color-scheme: dark;
    --back: #14171b; --card: #1d2228; --text: #e8ebee; --faint: #a0abb6; --line: #39424c;
    --bar: #6ea8e5; --keep: #7db7f0; --review: #e8b04a; --reject: #ff8a80;
    --s0: #6ea8e5; --s1: #f0975a; --s2: #6cc98b; --s3: #c391e6;
    --s4: #e3bd4f; --s5: #f0839f; --s6: #5cc8cf; --s7: #aab1ba;
"""

STYLE: Final = (
    f"""
:root {{
  color-scheme: light dark;
  --back: #ffffff; --card: #f4f6f8; --text: #1a1d21; --faint: #5b6570; --line: #d4dae0;
  --bar: #2f6db3; --keep: #1f68ad; --review: #8f5a00; --reject: #b3261e;
  --s0: #2f6db3; --s1: #c2571a; --s2: #2b8a4b; --s3: #8a4bb0;
  --s4: #b8860b; --s5: #c0345c; --s6: #16858c; --s7: #6b7078;
}}
:root[data-theme="light"] {{ color-scheme: light; }}
@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{{_DARK}}} }}
@media screen {{ :root[data-theme="dark"] {{{_DARK}}} }}
"""
    """
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 80rem; margin: 0 auto; padding: 1rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 46rem; }
.note { color: var(--faint); overflow-wrap: anywhere; }
.warning { border-left: 4px solid #d9822b; padding-left: .7rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
th.number, td.number { text-align: right; white-space: nowrap; }
tbody th:first-child { position: sticky; left: 0; background: var(--back); }
.charts {
  display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
}
figure { margin: 0; }
.chart {
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem;
}
.chart table th:first-child { background: var(--card); }
figcaption { font-weight: 600; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 13px; fill: var(--text); }
svg text.x { text-anchor: middle; }
svg text.y { text-anchor: end; dominant-baseline: central; }
svg path {
  fill: none; stroke: none; stroke-width: 1px; shape-rendering: crispEdges;
  vector-effect: non-scaling-stroke;
}
svg path.bar { fill: var(--bar); }
svg path.grid { stroke: var(--line); }
svg path.axis { stroke: var(--faint); }
svg path.even { stroke: var(--text); stroke-dasharray: 5 4; }
svg rect.hover { fill: transparent; }
svg path.line { stroke-width: 2px; shape-rendering: auto; stroke-linejoin: round; }
svg path.faint { stroke: var(--faint); stroke-width: 1px; }
svg path.plain { stroke: var(--text); }
svg .dashed { stroke-dasharray: 6 4; }
svg circle.plain { fill: var(--text); }
svg path.s0 { stroke: var(--s0); } svg circle.s0 { fill: var(--s0); }
svg path.s1 { stroke: var(--s1); } svg circle.s1 { fill: var(--s1); }
svg path.s2 { stroke: var(--s2); } svg circle.s2 { fill: var(--s2); }
svg path.s3 { stroke: var(--s3); } svg circle.s3 { fill: var(--s3); }
svg path.s4 { stroke: var(--s4); } svg circle.s4 { fill: var(--s4); }
svg path.s5 { stroke: var(--s5); } svg circle.s5 { fill: var(--s5); }
svg path.s6 { stroke: var(--s6); } svg circle.s6 { fill: var(--s6); }
svg path.s7 { stroke: var(--s7); } svg circle.s7 { fill: var(--s7); }
svg.key { display: inline-block; width: 22px; height: 10px; margin-right: .35rem; }
.keys { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; margin: .3rem 0; }
details { font-size: .9rem; color: var(--faint); }
summary { cursor: pointer; }
details .wide { max-height: 16rem; overflow-y: auto; }
.methods {
  display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 37.75rem), 1fr));
}
.examples {
  display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, 112px);
}
.examples figcaption { font-weight: 400; font-size: .9rem; text-align: center; }
.examples img { display: block; width: 112px; height: 112px; }
.examples .none {
  width: 112px; min-height: 112px; display: grid; place-items: center; text-align: center;
  border: 1px dashed var(--line); color: var(--faint); font-size: .85rem; padding: .4rem;
}
dl { margin: 0; columns: 2 24rem; column-gap: 2rem; }
dl div {
  display: grid; grid-template-columns: 15rem 1fr; gap: .7rem; padding: .2rem 0;
  border-bottom: 1px solid var(--line); break-inside: avoid;
}
dt { color: var(--faint); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  main { padding: .7rem .7rem 2rem; }
  .examples { grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); gap: .5rem; }
  .examples img, .examples .none { width: 100%; height: auto; aspect-ratio: 1; min-height: 0; }
  dl div { display: block; }
  dt { font-size: .85rem; }
}
"""
)
