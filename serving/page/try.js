// The form that asks one version: JSON or a picture in, the answer out.

import * as answers from "./answer.js";
import * as commands from "./commands.js";
import { el, fill, labelled, select } from "./dom.js";
import * as pictures from "./picture.js";
import { exampleRow, isTooLong, request, toText, unaskable, verb } from "./signature.js";

// version: as /ui/models/NAME/versions/N.json has it. base: the server's address.
export function form(version, base) {
  const signatures = version.signatures.filter((each) => !unaskable(each));
  if (signatures.length === 0) {
    return el("p", {}, version.signatures.length ? unaskable(version.signatures[0]) : "It has no signature that could be asked.");
  }
  const place = el("div");
  const show = (name) => fill(place, ...ask(version, signatures.find((each) => each.name === name), base));
  const choice = select(signatures.map(({ name }) => [name, name]), (event) => show(event.target.value));
  show(signatures[0].name);
  return el("div", {}, signatures.length > 1 ? el("div", { class: "row" }, labelled("Signature", choice)) : null, place);
}

function ask(version, signature, base) {
  const state = { body: "", picture: null, running: null };
  const text = el("textarea", { spellcheck: "false", autocomplete: "off", oninput: () => { state.body = text.value; } });
  const send = el("button", { class: "main", type: "submit" }, "Ask");
  const result = el("div", { role: "status", "aria-live": "polite" });
  const told = el("div");
  const entry = pictureEntry(version, signature, (body) => { state.body = body; result.replaceChildren(); tell(); });
  const json = el("div", {}, labelled("Request", text), el("p", { class: "soft" }, el("small", {}, hint(signature))));
  const modes = entry && modeChoice((mode) => {
    json.hidden = mode !== "json";
    entry.place.hidden = mode === "json";
    state.body = mode === "json" ? text.value : entry.body();
  });
  if (entry) entry.place.hidden = true;

  function reset() {
    text.value = isTooLong(signature) ? "" : toText(request(signature, exampleRow(signature), features(version)));
    state.body = text.value;
  }

  function tell() {
    commands.forget();
    fill(told, state.body ? commands.show(base, version.model, version.version, signature, state.body).map(asNode) : []);
  }

  async function submit(event) {
    event.preventDefault();
    tell();
    send.disabled = true;
    fill(result, el("p", { class: "soft" }, "Asking …"));
    fill(result, ...await answer(base, version, signature, state.body));
    send.disabled = false;
  }

  const keys = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) made.requestSubmit(); };
  const again = el("button", { type: "button", onclick: () => { reset(); tell(); } }, "Example again");
  json.append(el("p", {}, again));
  const made = el("form", { onsubmit: submit, onkeydown: keys }, modes, json, entry?.place, el("p", {}, send));
  reset();
  tell();
  text.addEventListener("change", tell);
  return [el("div", { class: "pair" },
    el("div", { class: "panel" }, el("h3", {}, "Ask it"), made),
    el("div", { class: "panel" }, el("h3", {}, "Answer"), result, el("p", { class: "soft" }, el("small", {}, "Ctrl and Enter asks, too."))),
  ), el("div", { class: "panel" }, told)];
}

const asNode = (part) => part instanceof Node ? part : document.createTextNode(part);

function hint(signature) {
  if (isTooLong(signature)) return "It takes more numbers than anybody types: choose a picture, or send them by a program.";
  return verb(signature) === "predict" ? "A list of rows under instances, or whole tensors under inputs." : "A list of tf.Examples: feature names and values.";
}

const features = (version) => version.signatures.find((each) => each.method === "predict" && !unaskable(each)) ?? null;

async function answer(base, version, signature, body) {
  const start = performance.now();
  let response, text;
  try {
    response = await fetch(base + commands.path(version.model, version.version, signature), { method: "POST", body });
    text = await response.text();
  } catch (error) {
    return [el("p", { class: "error", role: "alert" }, `The server cannot be reached: ${error.message}`)];
  }
  const took = el("p", { class: "soft" }, el("small", {}, `${milliseconds(performance.now() - start)}, HTTP ${response.status}`));
  if (response.ok) return [...answers.show(text, signature, version.classes).filter(Boolean), took];
  return [el("p", { class: "error", role: "alert" }, message(text) || response.statusText), took];
}

const milliseconds = (time) => time < 10 ? `${time.toFixed(1)} ms` : `${Math.round(time)} ms`;

function message(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return text;
  }
}

function modeChoice(onchoice) {
  const name = `mode${modeChoice.count++}`;
  const option = (value, text, checked) => el("label", { class: "choice" },
    el("input", { type: "radio", name, value, checked, onchange: () => onchoice(value) }), text);
  return el("fieldset", {}, el("legend", {}, "Send"), option("json", "JSON", true), option("picture", "A picture", false));
}
modeChoice.count = 0;

// The part of the form for a picture; null where no input takes one. tell: called with each new request.
function pictureEntry(version, signature, tell) {
  const ways = verb(signature) !== "predict" ? [] : signature.inputs.flatMap((input) =>
    pictures.layouts(input).map((layout) => ({ input, layout })));
  if (ways.length === 0) return null;
  const row = exampleRow(signature);
  let way = ways[0], file = null, bitmap = null, body = "";
  const canvas = el("canvas", { hidden: true, role: "img", "aria-label": "The picture as the model sees it" });
  const wrong = el("p", { class: "error", role: "alert", hidden: true });
  const name = (each) => (signature.inputs.length > 1 ? `${each.input.name}: ` : "") + pictures.describe(each.layout);
  const layout = select(ways.map((each, index) => [index, name(each)]), (event) => { way = ways[event.target.value]; guess(); update(); });
  const scale = select(Object.entries(pictures.SCALES).map(([key, [text]]) => [key, text]), () => update());
  const inverted = el("input", { type: "checkbox", onchange: () => update() });
  const picker = el("input", { type: "file", accept: "image/*", onchange: () => take(picker.files[0]) });
  const numeric = el("div", { class: "row" }, labelled("Values", scale), el("label", { class: "choice" }, inverted, "Invert"));
  const drop = el("div", {
    class: "drop",
    ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
    ondragleave: () => drop.classList.remove("over"),
    ondrop: (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files[0]); },
  }, labelled("Drop a picture here, or choose one", picker), canvas);

  function guess() {
    scale.value = pictures.guessScale(way.input, row[way.input.name]);
    numeric.hidden = way.layout.kind === "file";
  }

  async function take(chosen) {
    if (!chosen) return;
    wrong.hidden = true;
    file = chosen;
    try {
      bitmap = await createImageBitmap(chosen);
    } catch {
      bitmap = null;
      wrong.textContent = `This browser cannot read ${chosen.name} as a picture.`;
      wrong.hidden = false;
    }
    await update();
  }

  async function update() {
    const takesFile = way.layout.kind === "file";
    body = "";
    if (file && (bitmap || takesFile)) {
      if (bitmap) pictures.draw(bitmap, takesFile ? { width: null, height: null, channels: 3 } : way.layout, canvas);
      if (bitmap && !takesFile && inverted.checked) pictures.invert(canvas);
      const value = takesFile ? await pictures.base64(file) : pictures.pixels(canvas, way.layout, scale.value);
      body = JSON.stringify(request(signature, { ...row, [way.input.name]: value }), (_, item) => item?.toText ? 0 : item);
    }
    canvas.hidden = !bitmap;
    if (!place.hidden) tell(body);
  }

  const place = el("div", {}, drop, wrong, el("div", { class: "row" }, labelled("As", layout)), numeric);
  guess();
  return { place, body: () => body };
}
