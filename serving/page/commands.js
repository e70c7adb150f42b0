// The same request from a terminal: curl, and keraship predict with the inputs as .npy files.

import { copyable, el } from "./dom.js";
import { npy } from "./npy.js";
import { verb } from "./signature.js";

const SHORT = 3000; // characters of a body that a command line holds well

export const path = (model, version, signature) => `/v1/models/${encodeURIComponent(model)}/versions/${version}:${verb(signature)}`;

const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

// base: the address of the server, without a slash at its end.
export function curl(base, model, version, signature, body) {
  const address = quoted(base + path(model, version, signature));
  const data = body.length <= SHORT ? `--data-raw ${quoted(compact(body))}` : "--data-binary @request.json";
  return `curl ${data} ${address}`;
}

// Text that is JSON, without the white space that only people need.
function compact(body) {
  return body.replace(/"(?:[^"\\]|\\.)*"|\s+/g, (found) => found[0] === '"' ? found : "");
}

export function show(base, model, version, signature, body) {
  const parts = [el("h3", {}, "curl"), copyable(curl(base, model, version, signature, body))];
  if (body.length > SHORT) parts.push(download("request.json", new Blob([body], { type: "application/json" })));
  if (verb(signature) !== "predict" || model.includes("/")) return parts;
  const files = inputFiles(signature, body);
  if (!files) return parts;
  parts.push(el("h3", {}, "keraship predict"), copyable(keraship(base, model, version, signature, files)));
  parts.push(...files.map(({ file, bytes }) => download(file, new Blob([bytes]))), " ");
  return parts;
}

function keraship(base, model, version, signature, files) {
  const data = files.length === 1 ? files[0].file : files.map(({ name, file }) => `--input ${quoted(`${name}=${file}`)}`).join(" ");
  const which = signature.name === "serving_default" ? "" : ` --signature ${quoted(signature.name)}`;
  return `keraship predict ${quoted(`${base}/${model}`)} ${data} --version ${version}${which} --json`;
}

// Each input as a .npy file; null for requests that are no JSON, or that hold what such a file cannot.
function inputFiles(signature, body) {
  let value;
  try {
    value = JSON.parse(body);
  } catch {
    return null;
  }
  const single = signature.inputs.length === 1;
  const files = signature.inputs.map((input, index) => {
    const tensor = "instances" in value
      ? (Array.isArray(value.instances) ? value.instances.map((row) => single ? row : row?.[input.name]) : null)
      : single ? value.inputs : value.inputs?.[input.name];
    const bytes = Array.isArray(tensor) ? npy(tensor, input.dtype) : null;
    return { name: input.name, file: single ? "input.npy" : `input-${index + 1}.npy`, bytes };
  });
  return files.every(({ bytes }) => bytes) ? files : null;
}

const made = new Set();

function download(name, blob) {
  const url = URL.createObjectURL(blob);
  made.add(url);
  return el("a", { class: "button", href: url, download: name }, `Download ${name}`);
}

// Gives the memory of all downloads back.
export function forget() {
  made.forEach((url) => URL.revokeObjectURL(url));
  made.clear();
}
