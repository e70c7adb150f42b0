// Nested lists to a .npy file. Its format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

const KINDS = {
  float32: ["<f4", Float32Array], float64: ["<f8", Float64Array], int32: ["<i4", Int32Array], uint32: ["<u4", Uint32Array],
  int16: ["<i2", Int16Array], int8: ["|i1", Int8Array], uint8: ["|u1", Uint8Array], bool: ["|b1", Uint8Array],
  int64: ["<i8", BigInt64Array], uint64: ["<u8", BigUint64Array],
};

// The file's bytes; null for ragged lists, and for values that the dtype, or JavaScript, cannot hold.
export function npy(tensor, dtype) {
  const shape = shapeOf(tensor);
  const items = [tensor].flat(Infinity);
  if (!isRegular(tensor, shape)) return null;
  const [descr, bytes] = dtype === "string" ? texts(items) : numbers(items, dtype);
  return bytes && join(header(descr, shape), bytes);
}

function shapeOf(value) {
  return Array.isArray(value) ? [value.length, ...(value.length ? shapeOf(value[0]) : [])] : [];
}

function isRegular(value, [size, ...rest]) {
  if (size === undefined) return !Array.isArray(value);
  return Array.isArray(value) && value.length === size && value.every((item) => isRegular(item, rest));
}

function numbers(items, dtype) {
  const [descr, Kind] = KINDS[dtype] ?? [];
  const want = dtype === "bool" ? "boolean" : "number";
  if (!Kind || !items.every((item) => typeof item === want)) return [];
  if (!dtype.includes("int")) return [descr, new Uint8Array(Kind.from(items).buffer)];
  if (!items.every(Number.isSafeInteger)) return [];
  return [descr, new Uint8Array((dtype.endsWith("64") ? Kind.from(items, BigInt) : Kind.from(items)).buffer)];
}

// Strings as numpy's text of fixed width, four bytes a character.
function texts(items) {
  if (!items.every((item) => typeof item === "string" && !item.endsWith("\0"))) return [];
  const points = items.map((item) => Array.from(item, (character) => character.codePointAt(0)));
  const width = Math.max(1, ...points.map((each) => each.length));
  const table = new Uint32Array(width * items.length);
  points.forEach((each, index) => table.set(each, width * index));
  return [`<U${width}`, new Uint8Array(table.buffer)];
}

function header(descr, shape) {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const padded = text.padEnd(Math.ceil((10 + text.length + 1) / 64) * 64 - 11) + "\n";
  const start = new Uint8Array([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, padded.length & 255, padded.length >> 8]);
  return join(start, new TextEncoder().encode(padded));
}

function join(first, second) {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}
