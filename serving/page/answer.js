// An answer as people read it: scores as bars, the largest first; everything else as text.

import { el } from "./dom.js";

const FIRST_BARS = 10;
const MOST_ROWS = 16;
const MOST_TEXT = 20000;

// TensorFlow Serving writes NaN and Infinity, which are no JSON: they become strings.
export function parse(text) {
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (found) => found[0] === '"' ? found : `"${found}"`));
}

export function show(text, signature, classes) {
  const raw = el("details", {}, el("summary", {}, "The answer's text"), el("pre", {}, cut(text)));
  let answer;
  try {
    answer = parse(text);
  } catch {
    raw.open = true;
    return [raw];
  }
  const rows = toRows(answer, signature);
  const shown = rows.slice(0, MOST_ROWS).flatMap((row, index) => [
    rows.length > 1 ? el("h3", {}, `Row ${index + 1} of ${rows.length}`) : null,
    ...Object.entries(row).flatMap(([name, value]) => showValue(name, value, row, classes)),
  ]);
  return [...shown, raw];
}

const cut = (text) => text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}\n… ${text.length - MOST_TEXT} characters more` : text;

// Rows of {output: value}, whatever the format of the answer.
function toRows(answer, signature) {
  const only = signature.outputs[0]?.name ?? "answer";
  if (answer.results) return answer.results.map((value) => ({ [only]: value }));
  if (answer.predictions) return answer.predictions.map((row) => isNamed(row, signature) ? row : { [only]: row });
  const outputs = isNamed(answer.outputs, signature) ? answer.outputs : { [only]: answer.outputs };
  const sizes = new Set(Object.values(outputs).map((value) => Array.isArray(value) ? value.length : -1));
  if (sizes.size !== 1 || sizes.has(-1)) return [outputs];
  return Array.from({ length: [...sizes][0] }, (_, index) =>
    Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, value[index]])));
}

const isNamed = (value, signature) => typeof value === "object" && value !== null && !Array.isArray(value)
  && signature.outputs.length > 1;

function showValue(name, value, row, classes) {
  const title = el("h3", {}, name);
  const scored = isPairs(value) ? value.map(([label, score]) => ({ label: label === "" ? "(no label)" : label, score })) : null;
  if (scored) return [title, headline(scored), bars(scored)];
  if (isScores(value)) {
    const names = namesFor(value, row, classes);
    const found = value.map((score, index) => ({ label: names?.[index] ?? String(index), score }));
    return [title, headline(found), bars(found)];
  }
  return [title, el("pre", {}, cut(typeof value === "string" ? value : JSON.stringify(value)))];
}

const isNumber = (value) => typeof value === "number" || ["NaN", "Infinity", "-Infinity"].includes(value);
const isScores = (value) => Array.isArray(value) && value.length > 1 && value.every(isNumber);
const isPairs = (value) => Array.isArray(value) && value.length > 0
  && value.every((pair) => Array.isArray(pair) && pair.length === 2 && typeof pair[0] === "string" && isNumber(pair[1]));

// The version's own names, or those that another output of the same row gives.
function namesFor(scores, row, classes) {
  const fits = (names) => Array.isArray(names) && names.length === scores.length && names.every((name) => typeof name === "string");
  return [classes, ...Object.values(row)].find(fits) ?? null;
}

const size = (score) => Number(score) || (score === "Infinity" ? Infinity : score === "-Infinity" ? -Infinity : 0);
const sorted = (scored) => scored.toSorted ? scored.toSorted((a, b) => size(b.score) - size(a.score)) : [...scored].sort((a, b) => size(b.score) - size(a.score));
const isShares = (scored) => scored.every(({ score }) => size(score) >= 0 && size(score) <= 1);
const digits = (score) => typeof score === "number" ? String(Number(score.toPrecision(4))) : score;

function headline(scored) {
  const [best] = sorted(scored);
  const score = isShares(scored) ? `${(100 * size(best.score)).toFixed(1)} %` : digits(best.score);
  return el("p", { class: "answer" }, `${best.label}: ${score}`);
}

function bars(scored) {
  const best = sorted(scored);
  const full = isShares(scored) ? 1 : Math.max(...best.map(({ score }) => Math.abs(size(score))).filter(Number.isFinite), 0) || 1;
  const bar = ({ label, score }) => {
    const inner = el("div", { class: size(score) < 0 ? "bar negative" : "bar" });
    inner.style.width = `${Math.min(100, 100 * Math.abs(size(score)) / full)}%`;
    return el("li", {}, el("span", { class: "name" }, label), el("div", { class: "track", "aria-hidden": "true" }, inner),
      el("span", { class: "value", title: score }, digits(score)));
  };
  const list = el("ol", { class: "bars" }, best.slice(0, FIRST_BARS).map(bar));
  if (best.length <= FIRST_BARS) return list;
  const more = el("button", { type: "button", onclick: () => { list.append(...best.slice(FIRST_BARS).map(bar)); more.remove(); } },
    `Show all ${best.length}`);
  return el("div", {}, list, more);
}
