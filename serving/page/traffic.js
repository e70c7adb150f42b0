// The figures of the traffic, as cards and as columns: from what the server counted since its start, twice or more often.

import { el } from "./dom.js";

const SECONDS = 10; // over which rates and percentiles are taken
const POINTS = 60; // of the line

const history = []; // {at, models}, oldest first
const line = []; // requests a second, oldest first
let limits = [];

export const COLUMNS = ["Requests/s", "Failed/s", "p50", "p99", "Since the start"];

// Called once for each state that came.
export function cards(rates) {
  if (!rates?.models) return [];
  limits = rates.limits;
  const before = history.at(-1)?.models ?? {};
  // Fewer than before: the server was started anew.
  if (Object.entries(before).some(([name, { answered }]) => (rates.models[name]?.answered ?? 0) < answered)) history.length = 0;
  history.push({ at: performance.now() / 1000, models: rates.models });
  while (history.length > 2 && history[1].at < history.at(-1).at - SECONDS) history.shift();
  const all = Object.values(perModel(rates));
  const sum = (field) => all.reduce((total, each) => total + each[field], 0);
  line.push(sum("rate"));
  if (line.length > POINTS) line.shift();
  const failed = sum("failed");
  return [
    card(number(sum("rate")), "requests a second", false, sparkline()),
    card(number(failed), "failed a second", failed > 0),
    card(sum("total").toLocaleString("en"), "requests since the start", false),
  ];
}

export function perModel(rates) {
  const [first, last] = [history[0], history.at(-1)];
  const seconds = last ? last.at - first.at : 0;
  return Object.fromEntries(Object.entries(rates?.models ?? {}).map(([name, now]) => [name, one(first?.models[name], now, seconds)]));
}

export function cells(rate) {
  if (!rate) return COLUMNS.map(() => "");
  return [number(rate.rate), number(rate.failed), time(rate.p50), time(rate.p99), rate.total.toLocaleString("en")];
}

function one(before, now, seconds) {
  const since = (field) => now[field] - (before?.[field] ?? 0);
  const buckets = now.buckets.map((count, index) => count - (before?.buckets[index] ?? 0));
  return {
    rate: seconds ? (since("answered") + since("failed")) / seconds : 0,
    failed: seconds ? since("failed") / seconds : 0,
    p50: percentile(buckets, 0.5),
    p99: percentile(buckets, 0.99),
    total: now.answered + now.failed,
  };
}

// Microseconds: the upper limit of the bucket in which it lies; null where nothing was answered.
function percentile(buckets, share) {
  const wanted = share * buckets.reduce((total, count) => total + count, 0);
  let below = 0;
  for (const [index, count] of buckets.entries()) {
    below += count;
    if (count && below >= wanted) return limits[index] ?? Infinity;
  }
  return null;
}

function card(value, text, bad, ...more) {
  return el("div", { class: bad ? "card bad" : "card" }, el("b", {}, value), el("span", {}, text), ...more);
}

function sparkline() {
  const most = Math.max(...line, 1);
  const points = line.map((value, index) => `${index},${(24 - (22 * value) / most).toFixed(1)}`).join(" ");
  return el("svg", { viewBox: `0 0 ${POINTS - 1} 24`, preserveAspectRatio: "none", "aria-hidden": "true" }, el("polyline", { points }));
}

const number = (value) => (value >= 10 || value === 0 ? Math.round(value).toLocaleString("en") : value.toFixed(1));

function time(micros) {
  if (micros === null) return "";
  if (micros === Infinity) return "long";
  return micros < 1000 ? `< ${Math.round(micros)} µs` : `< ${(micros / 1000).toPrecision(3)} ms`;
}
