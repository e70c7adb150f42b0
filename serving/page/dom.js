// Elements of text and elements: whatever a server calls a model becomes text, never markup.

const SVG = new Set(["svg", "polyline"]);

export function el(tag, props = {}, ...children) {
  const made = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined).map((child) =>
    child instanceof Node ? child : document.createTextNode(String(child))));
  return made;
}

export function fill(place, ...children) {
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  return place;
}

export function labelled(text, control) {
  const id = control.id || (control.id = `c${labelled.count++}`);
  return el("div", {}, el("label", { for: id }, text), control);
}
labelled.count = 0;

export function select(values, onchange) {
  // values: [value, text] pairs
  return el("select", { onchange }, values.map(([value, text]) => el("option", { value }, text)));
}

export function copyable(text) {
  // A box with a button; pages that came by plain HTTP have no clipboard but the old one.
  const pre = el("pre", {}, el("code", {}, text));
  const button = el("button", { type: "button", onclick: copy }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(pre);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }
  return el("div", { class: "copy" }, pre, button);
}
