// A picture to the numbers that an input takes: which layouts fit a shape, and the pixels in that layout.

import { isFloat } from "./signature.js";

const LEAST = 4; // narrower things are no pictures
const LARGEST = 512; // for a side whose size the model leaves open

export const SCALES = {
  unit: ["0 to 1", (level) => Number((level / 255).toFixed(4))],
  byte: ["0 to 255", (level) => Math.round(level)],
  signed: ["-1 to 1", (level) => Number((level / 127.5 - 1).toFixed(4))],
};

// Each way in which a picture can go into an input: {kind, height, width, channels, first, flat}. null: as the picture is.
export function layouts(input) {
  if (!input.json || input.shape === null) return [];
  if (input.dtype === "string") return input.shape.length <= 1 ? [{ kind: "file" }] : [];
  if (input.dtype === "bool") return [];
  const sizes = input.shape.slice(1);
  const found = { 3: volumes, 2: planes, 1: flats }[sizes.length]?.(sizes) ?? [];
  return found.filter(({ height, width }) => [height, width].every((size) => size === null || size >= LEAST));
}

function volumes([first, second, third]) {
  const last = [1, 3, 4, null].includes(third) ? [{ kind: "pixels", height: first, width: second, channels: third ?? 3 }] : [];
  const front = [1, 3].includes(first) ? [{ kind: "pixels", height: second, width: third, channels: first, first: true }] : [];
  return [...last, ...front];
}

const planes = ([height, width]) => [{ kind: "pixels", height, width, channels: 0 }];

function flats([size]) {
  return [1, 3].flatMap((channels) => {
    const side = Math.sqrt(size / channels);
    return size && Number.isInteger(side) ? [{ kind: "pixels", height: side, width: side, channels, flat: true }] : [];
  });
}

export function describe(layout) {
  if (layout.kind === "file") return "the file's bytes";
  const size = `${layout.height ?? "own"} × ${layout.width ?? "own"}`;
  const colour = { 0: "grey", 1: "grey", 3: "colour", 4: "colour and alpha" }[layout.channels];
  return `${size}, ${colour}${layout.first ? ", channels first" : ""}${layout.flat ? ", in one list" : ""}`;
}

// What a model was probably trained on: its own sample says most.
export function guessScale(input, example) {
  if (!isFloat(input.dtype)) return "byte";
  const values = [example].flat(Infinity).filter((value) => typeof value === "number");
  if (values.some((value) => value > 2)) return "byte";
  return values.some((value) => value < 0) ? "signed" : "unit";
}

// Draws the picture as the model will see it; returns nothing of its pixels yet.
export function draw(bitmap, layout, canvas) {
  const bounded = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  canvas.width = layout.width ?? Math.max(1, Math.round(bitmap.width * bounded));
  canvas.height = layout.height ?? Math.max(1, Math.round(bitmap.height * bounded));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  if (layout.channels !== 4) {
    context.fillStyle = "#fff"; // what is transparent is paper
    context.fillRect(0, 0, canvas.width, canvas.height);
  } else {
    context.clearRect(0, 0, canvas.width, canvas.height);
  }
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
}

export function invert(canvas) {
  const context = canvas.getContext("2d");
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < image.data.length; at++) if (at % 4 !== 3) image.data[at] = 255 - image.data[at];
  context.putImageData(image, 0, 0);
}

// The row: nested lists of numbers in the layout.
export function pixels(canvas, layout, scale) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const value = SCALES[scale][1];
  const level = (at, channel) => layout.channels > 1 ? data[at + channel]
    : 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]; // ITU-R 601, as PIL's "L"
  const plane = (channel) => grid(height, width, (y, x) => value(level(4 * (y * width + x), channel)));
  if (layout.channels === 0) return plane(0);
  const channels = Array.from({ length: layout.channels }, (_, channel) => plane(channel));
  if (layout.first) return channels;
  const rows = grid(height, width, (y, x) => channels.map((each) => each[y][x]));
  return layout.flat ? rows.flat(2) : rows;
}

const grid = (height, width, at) => Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => at(y, x)));

export async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return { b64: btoa(text) };
}
