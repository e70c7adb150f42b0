// The page: what is served, followed every two seconds, and the version that was chosen.

import { el, fill } from "./dom.js";
import { showShape } from "./signature.js";
import * as traffic from "./traffic.js";
import { form } from "./try.js";

const SECONDS = 2;
const base = location.href.replace(/\/ui\/.*$/, "");
const place = (id) => document.getElementById(id);

let shown = ""; // the version whose form stands there, and stays while somebody types
let last = ""; // what the table was made of

async function poll() {
  try {
    const response = await fetch("state.json", { cache: "no-store" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    show(await response.json());
  } catch (error) {
    place("lead").textContent = `The server does not answer: ${error.message}`;
  }
  setTimeout(poll, document.hidden ? 5000 * SECONDS : 1000 * SECONDS);
}

function show(state) {
  const models = state.models.length;
  const ready = state.models.filter(({ versions }) => versions.some((each) => each.state === "AVAILABLE")).length;
  place("lead").textContent = `${ready} of ${models} ${models === 1 ? "model" : "models"} served by keraship ${state.keraship}`;
  fill(place("rates"), traffic.cards(state.rates));
  const chosen = choose(state);
  const now = JSON.stringify([state.models, chosen, traffic.perModel(state.rates)]);
  if (now !== last) fill(place("models"), table(state, chosen));
  last = now;
  open(chosen);
}

// The version in the address, or the newest of the first model that is there.
function choose(state) {
  const there = state.models.flatMap(({ name, versions }) =>
    versions.filter((each) => each.state === "AVAILABLE").map(({ version }) => ({ model: name, version })));
  const wanted = fromHash();
  return there.find((each) => each.model === wanted?.model && each.version === wanted.version) ?? wanted ?? there[0] ?? null;
}

function fromHash() {
  const found = location.hash.match(/^#([^/]+)\/(\d+)$/);
  if (!found) return null;
  try {
    return { model: decodeURIComponent(found[1]), version: found[2] };
  } catch {
    return null;
  }
}

const toHash = ({ model, version }) => `#${encodeURIComponent(model)}/${version}`;

function table(state, chosen) {
  const rates = traffic.perModel(state.rates);
  const focused = document.activeElement?.dataset?.key;
  const head = ["Model", "Version", "State", "Labels", ...traffic.COLUMNS, ""];
  const rows = state.models.flatMap((model) => model.versions.length
    ? model.versions.map((version, index) => line(model, version, index, rates, chosen))
    : [el("tr", {}, el("th", { scope: "row" }, model.name), el("td", { colspan: head.length - 1, class: "soft" }, "no version found yet"))]);
  const made = el("table", { class: "stack" },
    el("thead", {}, el("tr", {}, head.map((text, index) => el("th", { scope: "col", class: index > 3 ? "num" : false }, text)))),
    el("tbody", {}, rows));
  if (focused) queueMicrotask(() => made.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus());
  return made;
}

function line(model, version, index, rates, chosen) {
  const here = { model: model.name, version: version.version };
  const isChosen = chosen?.model === here.model && chosen.version === here.version;
  const labels = Object.entries(model.labels ?? {}).filter(([, number]) => number === version.version).map(([label]) => label);
  const failed = version.error !== null;
  const cells = traffic.cells(index === 0 ? rates[model.name] : null);
  return el("tr", { class: isChosen ? "chosen" : false },
    el("th", { scope: "row" }, model.name),
    el("td", { "data-label": "Version" }, version.version),
    el("td", { "data-label": "State" }, el("span", { class: `chip ${failed ? "failed" : version.state}` }, version.state),
      failed ? el("div", { class: "error" }, version.error) : null),
    el("td", { "data-label": "Labels", class: labels.length ? false : "none" }, labels.map((label) => el("span", { class: "tag" }, label))),
    cells.map((text, at) => el("td", { class: text ? "num" : "num none", "data-label": traffic.COLUMNS[at] }, text)),
    el("td", { class: "act" }, version.state === "AVAILABLE"
      ? el("a", { class: "button", href: toHash(here), "data-key": toHash(here), "aria-current": isChosen ? "true" : false,
        "aria-label": `Open ${model.name} version ${version.version}` }, "Open") : null));
}

async function open(chosen) {
  const key = chosen ? toHash(chosen) : "";
  if (key === shown) return;
  shown = key;
  if (!chosen) {
    fill(place("version"));
    return;
  }
  const response = await fetch(`models/${encodeURIComponent(chosen.model)}/versions/${chosen.version}.json`, { cache: "no-store" });
  const found = await response.json();
  if (key !== shown) return; // another one was chosen meanwhile
  const title = el("h2", {}, `${chosen.model}, version ${chosen.version}`);
  document.title = `${chosen.model} · Models`;
  if (!response.ok) {
    fill(place("version"), title, el("p", { class: "error" }, found.error));
    return;
  }
  fill(place("version"), title, form(found, base), el("div", { class: "panel scroll", tabindex: "0" }, found.signatures.map(signature)));
}

function signature({ name, method, inputs, outputs }) {
  const row = (side) => ({ name: tensor, dtype, shape }) => el("tr", {}, el("td", {}, side), el("td", {}, el("code", {}, tensor)),
    el("td", {}, dtype), el("td", {}, el("code", {}, showShape(shape))));
  return el("div", {}, el("h3", {}, `Signature ${name} `, el("small", {}, method)), el("table", {},
    el("thead", {}, el("tr", {}, ["", "name", "dtype", "shape"].map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, inputs.map(row("input")), outputs.map(row("output")))));
}

addEventListener("hashchange", async () => {
  try {
    show(await (await fetch("state.json", { cache: "no-store" })).json());
  } catch (error) {
    place("lead").textContent = `The server does not answer: ${error.message}`;
  }
});
poll();
