"""How the page looks: light and dark, on paper, on a phone."""

STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff; --ink: #1c2024; --soft: #5f666e; --line: #dfe2e5;
  --faint: #eef0f2; --best: #0f7b48; --best-back: #dff5e9; --ok: #33588a; --ok-back: #e4edf8; --no: #b3261e;
  --no-back: #fbe6e4; --c0: #3b6fb6; --c1: #d9480f; --c2: #7048a8; --c3: #0b8a7a; --c4: #b8860b; --c5: #6b7280;
  --accent: #d9480f; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #a3abb3; --line: #343a40; --faint: #262b30;
    --best: #6fdba6; --best-back: #123a28; --ok: #a7c7f2; --ok-back: #1d3047; --no: #ff9d94; --no-back: #47201d; --c0:
    #7ba9e6; --c1: #ff8a50; --c2: #b794ea; --c3: #4fc9b7; --c4: #e3b54a; --c5: #9aa3ad; --accent: #ff8a50; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", sans-serif; font-variant-numeric: tabular-nums; }
main, header > div, footer { max-width: 80rem; margin: 0 auto; padding: 0 1.25rem; }
header { border-bottom: 1px solid var(--line); background: var(--card); padding: 1.6rem 0 0; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .3rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .3rem 0 .8rem; overflow-wrap: anywhere; }
p.lead { font-size: 1.08rem; max-width: 52rem; }
.soft, small, figcaption, .axis { color: var(--soft); }
small, figcaption { font-size: .84rem; }
a { color: var(--ok); }
nav { display: flex; gap: .2rem 1.2rem; flex-wrap: wrap; padding: .7rem 0; font-size: .9rem; }
nav a { text-decoration: none; color: var(--soft); }
nav a:hover { color: var(--ink); text-decoration: underline; }
section { scroll-margin-top: 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.4rem 0
  .4rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.25; letter-spacing: -.02em; overflow-wrap: anywhere; }
.card span { color: var(--soft); font-size: .84rem; }
.card.best { border-color: var(--best); background: var(--best-back); }
.card.best b { color: var(--best); }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; margin: .8rem 0;
  min-width: 0; }
.panel > h3:first-child { margin-top: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 0 .9rem; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); gap: .9rem; }
figure { margin: 0; min-width: 0; }
figcaption { overflow-wrap: anywhere; margin-bottom: .2rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--soft); }
th, td { padding: .45rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-size: .8rem; font-weight: 600; color: var(--soft); vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
td.num, th.num { text-align: right; white-space: nowrap; }
td small, th small { display: block; font-weight: 400; }
.nowrap { white-space: nowrap; }
td.what { min-width: 9.5rem; }
th[scope=row] { font-weight: 600; overflow-wrap: anywhere; min-width: 9rem; }
tr.refused .num, tr.refused .what { opacity: .75; }
.breaks { overflow-wrap: anywhere; }
tr.lead > * { background: color-mix(in srgb, var(--best-back) 45%, transparent); }
.chip { display: inline-block; border-radius: 99px; padding: .06rem .6rem; font-size: .76rem; font-weight: 700;
  letter-spacing: .03em; background: var(--ok-back); color: var(--ok); }
.chip.best { background: var(--best); color: var(--card); }
.chip.refused { background: var(--no-back); color: var(--no); }
.key { display: inline-flex; align-items: center; justify-content: center; min-width: 1.45em; height: 1.45em; padding:
  0 .3em; border-radius: 5px; font-size: .78rem; font-weight: 700; color: var(--card); margin-right: .45em; }
.k0 { background: var(--c0); }
.k1 { background: var(--c1); }
.k2 { background: var(--c2); }
.k3 { background: var(--c3); }
.k4 { background: var(--c4); }
.k5 { background: var(--c5); }
.s0 { --s: var(--c0); }
.s1 { --s: var(--c1); }
.s2 { --s: var(--c2); }
.s3 { --s: var(--c3); }
.s4 { --s: var(--c4); }
.s5 { --s: var(--c5); }
.bars { display: grid; grid-template-columns: minmax(0, max-content) minmax(5rem, 1fr) max-content; gap: .42rem .7rem;
  align-items: center; margin: .5rem 0 0; padding: 0; list-style: none; font-size: .9rem; }
.bars li { display: contents; }
.bars .name { overflow-wrap: anywhere; max-width: 17rem; }
.track { background: var(--faint); border-radius: 4px; height: 1.05rem; position: relative; }
.bar { background: var(--s, var(--c0)); border-radius: 4px; height: 100%; min-width: 2px; }
.bar.hollow { background: repeating-linear-gradient(45deg, var(--soft) 0 2px, transparent 2px 6px); border: 1px solid
  var(--soft); }
.mark { position: absolute; top: -3px; bottom: -3px; border-left: 2px solid var(--ink); }
.bars .value { text-align: right; white-space: nowrap; }
.bars .note { grid-column: 1 / -1; margin-top: -.35rem; }
svg { display: block; max-width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--ink); font: 11px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-variant-numeric:
  tabular-nums; }
svg .axis { fill: var(--soft); font-size: 10px; }
svg .grid { stroke: var(--line); stroke-width: 1; fill: none; }
svg .fill { fill: var(--s, var(--c0)); }
svg .equal { fill: var(--best); }
svg .bad { fill: var(--no); }
svg .stroke { stroke: var(--s, var(--c0)); fill: none; stroke-width: 1.6; }
svg .whisker { stroke: var(--s); opacity: .55; }
svg .model { stroke: var(--ink); fill: none; stroke-width: 3.5; opacity: .22; }
svg .letter { fill: var(--card); font-weight: 700; text-anchor: middle; }
svg .middle { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .limit { stroke: var(--no); stroke-dasharray: 4 3; }
svg .ring { fill: none; stroke: var(--best); stroke-width: 2; }
.graph svg { max-width: none; margin: 0 auto; }
.graph rect.box { fill: var(--back); stroke: var(--line); }
.graph rect.tag { fill: var(--s, var(--line)); }
.graph path { fill: none; stroke: var(--soft); opacity: .6; stroke-width: 1.3; }
.graph .name { font-weight: 600; }
.graph .ops, .graph .weights { fill: var(--soft); font-size: 10px; }
.graph rect.terminal { fill: var(--faint); stroke: var(--soft); }
pre { background: var(--faint); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; font: 13px/1.5
  ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: .4rem 0 1rem; -webkit-user-select: all;
  user-select: all; }
code, .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .88em; overflow-wrap:
  anywhere; }
pre code { font-size: 1em; overflow-wrap: normal; }
details { margin: .7rem 0; }
summary { cursor: pointer; color: var(--soft); }
footer { color: var(--soft); font-size: .84rem; margin: 3rem auto 2rem; }
@media (max-width: 46rem) {
  h1 { font-size: 1.5rem; }
  main, header > div, footer { padding: 0 .9rem; }
  .cards { grid-template-columns: 1fr 1fr; }
  .stack thead { display: none; }
  .stack, .stack tbody, .stack tr, .stack td, .stack th { display: block; width: 100%; }
  .stack tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .stack tbody tr:last-child { border-bottom: 0; }
  .stack td, .stack th { border: 0; padding: .12rem .5rem; }
  .stack td.num { text-align: left; white-space: normal; }
  .stack td[data-label] { display: grid; grid-template-columns: 7.2rem 1fr; gap: 0 .5rem; }
  .stack td[data-label]::before { content: attr(data-label); color: var(--soft); font-size: .84rem; grid-row: 1 / 9; }
  .stack td.nothing { display: none; }
  .card b { font-size: 1.15rem; }
  .bars { grid-template-columns: minmax(0, 1fr) max-content; }
  .bars .name { grid-column: 1 / -1; max-width: none; margin-bottom: -.35rem; }
}
@media print {
  :root { --back: #fff; --card: #fff; --ink: #000; --soft: #444; }
  body { font-size: 10.5pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav { display: none; }
  header { background: none; }
  .panel, .card, figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  pre { white-space: pre-wrap; }
}
"""
