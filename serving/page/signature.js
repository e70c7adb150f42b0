// What a signature asks for: shapes in words, an example, and the body of a request.

const OPEN = 2; // in place of an inner size that may vary
const MANY = 10000; // numbers that a text field still takes well

export const showShape = (shape) => shape === null ? "any" : `[${shape.map((size) => size === null ? "-1" : size).join(", ")}]`;

// Whether requests go row by row: every input has a first axis for the rows.
export const isByRow = (signature) => signature.inputs.every((input) => input.shape !== null && input.shape.length > 0);

export const rowShape = (input) => (input.shape ?? []).slice(1);

const rowCount = (signature) => Math.max(1, ...signature.inputs.map((input) => input.shape[0] ?? 1));

export function unaskable(signature) {
  const strange = signature.inputs.filter((input) => !input.json);
  if (signature.inputs.length === 0) return "It takes no input, so there is nothing to send.";
  if (strange.length === 0) return "";
  return `JSON has no ${strange[0].dtype} (input ${strange[0].name}): ask this one over gRPC, as keraship predict HOST:PORT/MODEL does.`;
}

// An example of each input, by name: the row (or, where there are no rows, the whole tensor) that the version brought, or zeros.
export function exampleRow(signature) {
  if (signature.example !== null && isByRow(signature)) return signature.example;
  return Object.fromEntries(signature.inputs.map((input) => {
    const shape = isByRow(signature) ? rowShape(input) : (input.shape ?? []);
    return [input.name, zeros(shape.map((size) => size ?? OPEN), input.dtype)];
  }));
}

export function isTooLong(signature) {
  const count = (input) => (input.shape ?? []).slice(1).reduce((product, size) => product * (size ?? OPEN), 1);
  return signature.inputs.reduce((sum, input) => sum + count(input), 0) * (isByRow(signature) ? rowCount(signature) : 1) > MANY;
}

function zeros(shape, dtype) {
  if (shape.length === 0) return dtype === "string" ? "text" : dtype === "bool" ? false : isFloat(dtype) ? ZERO : 0;
  return Array.from({ length: shape[0] }, () => zeros(shape.slice(1), dtype));
}

const ZERO = { toText: () => "0.0" }; // JavaScript writes 0, which reads as a whole number
export const isFloat = (dtype) => dtype.startsWith("float");

export function verb(signature) {
  return ["classify", "regress"].includes(signature.method) ? signature.method : "predict";
}

// The request as a value: rows or whole tensors, under the signature's name where it is not the default one.
export function request(signature, row, features) {
  const head = signature.name === "serving_default" ? {} : { signature_name: signature.name };
  if (verb(signature) !== "predict") return { ...head, examples: [features ? flatFeatures(features) : {}] };
  const names = signature.inputs.map((input) => input.name);
  const value = names.length === 1 ? row[names[0]] : row;
  if (!isByRow(signature)) return { ...head, inputs: value };
  return { ...head, instances: Array(rowCount(signature)).fill(value) };
}

// The features of a tf.Example are flat lists.
function flatFeatures(signature) {
  const row = exampleRow(signature);
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, Array.isArray(value) ? value.flat(Infinity) : value]));
}

// JSON as people read it: the innermost lists on a line each.
export function toText(value, indent = "") {
  if (value?.toText) return value.toText();
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (!value.some((item) => Array.isArray(item) || isPlainObject(item))) return `[${value.map((item) => toText(item)).join(", ")}]`;
    if (value.every((item) => Array.isArray(item) && item.length < 5 && !item.some(Array.isArray)) && value.length < 65) {
      return `[${value.map((item) => toText(item)).join(", ")}]`;
    }
    return `[\n${value.map((item) => inner + toText(item, inner)).join(",\n")}\n${indent}]`;
  }
  if (isPlainObject(value)) {
    const members = Object.entries(value).map(([name, item]) => `${inner}${JSON.stringify(name)}: ${toText(item, inner)}`);
    return members.length ? `{\n${members.join(",\n")}\n${indent}}` : "{}";
  }
  return JSON.stringify(value);
}

const isPlainObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !value.toText;
