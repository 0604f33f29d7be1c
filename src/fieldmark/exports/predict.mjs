// In JavaScript: answers for images with the bundle in a folder, as `fieldmark predict --json` prints them:
//
//     npm install onnxruntime-node sharp
//     node predict.mjs BUNDLE photo.jpg another.png

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import * as ort from "onnxruntime-node";
import sharp from "sharp";

const TOP = 5;
const BAR = 128;

/** Opens the bundle in a folder; the function returned answers for the bytes of an image. */
export async function open(folder) {
  const bundle = JSON.parse(readFileSync(join(folder, "bundle.json"), "utf8"));
  const { size, resize: how } = bundle.preprocess;
  const batch = Math.min(...Object.keys(bundle.graph.files).map(Number));
  const session = await ort.InferenceSession.create(join(folder, bundle.graph.files[batch]));
  const name = bundle.decisions?.rejection.score;
  const arrays = ["msp", "max-logit", "energy", undefined].includes(name) ? {} : readArrays(join(folder, "rejection.safetensors"));
  const head = bundle.enrolled?.length ? readArrays(join(folder, "head.safetensors")) : null;

  return async (bytes) => {
    const pixels = channelsFirst(square(await decode(bytes), size, how));
    const images = new Uint8Array(batch * pixels.length); // a graph takes exactly so many images
    for (let place = 0; place < batch; place++) images.set(pixels, place * pixels.length);
    const outputs = await session.run({ images: new ort.Tensor("uint8", images, [batch, 3, size, size]) });
    const first = (tensor) => tensor.data.slice(0, tensor.data.length / batch);
    const seen = [first(outputs.logits), first(outputs.features)];
    return decide(bundle, arrays, ...(head ? withEnrolled(seen[1], head) : seen));
  };
}

/** RGB of the bytes of an image, as sRGB: upright, and over white where it is transparent. */
export async function decode(bytes) {
  const image = sharp(bytes).autoOrient().toColourspace("srgb").ensureAlpha();
  const { data: rgba, info } = await image.raw().toBuffer({ resolveWithObject: true });
  const data = new Uint8Array(3 * info.width * info.height);
  for (let place = 0; place < data.length; place++) {
    const pixel = 4 * Math.floor(place / 3);
    const alpha = rgba[pixel + 3];
    const sum = rgba[pixel + (place % 3)] * alpha + 255 * (255 - alpha) + 128;
    data[place] = ((sum >> 8) + sum) >> 8;
  }
  return { width: info.width, height: info.height, data };
}

/** The square that the network sees: squashed, its middle, or whole between grey bars. */
export function square(image, size, how) {
  const { width, height } = image;
  if (how === "squash") return resize(image, size, size);
  if (how === "shorter-side") {
    const side = Math.min(width, height);
    const [left, top] = [(width - side) / 2, (height - side) / 2];
    return resize(image, size, size, [left, top, left + side, top + side]);
  }
  const scale = size / Math.max(width, height);
  const fitted = resize(image, Math.max(1, roundHalfEven(width * scale)), Math.max(1, roundHalfEven(height * scale)));
  const data = new Uint8Array(3 * size * size).fill(BAR);
  const [left, top] = [Math.floor((size - fitted.width) / 2), Math.floor((size - fitted.height) / 2)];
  for (let y = 0; y < fitted.height; y++)
    data.set(fitted.data.subarray(3 * y * fitted.width, 3 * (y + 1) * fitted.width), 3 * ((y + top) * size + left));
  return { width: size, height: size, data };
}

/** Bilinear with antialiasing, pixel for pixel as Pillow 13 does it: one direction after the other, each rounded to 8 bits. */
export function resize(image, width, height, [left, top, right, bottom] = [0, 0, image.width, image.height]) {
  const across = filters(image.width, left, right, width);
  const down = filters(image.height, top, bottom, height);
  const columnsFirst = image.height > height && image.height - height > 2 * (image.width - width);
  return columnsFirst ? alongRows(alongColumns(image, down), across) : alongColumns(alongRows(image, across), down);
}

function alongRows(image, filters) {
  const width = filters.length;
  const data = new Uint8Array(3 * width * image.height);
  for (let y = 0; y < image.height; y++)
    for (let place = 0; place < 3 * width; place++)
      data[3 * y * width + place] = filtered(image.data, filters[Math.floor(place / 3)], 3 * y * image.width + (place % 3), 3);
  return { width, height: image.height, data };
}

function alongColumns(image, filters) {
  const row = 3 * image.width;
  const data = new Uint8Array(row * filters.length);
  for (let y = 0; y < filters.length; y++)
    for (let place = 0; place < row; place++) data[y * row + place] = filtered(image.data, filters[y], place, row);
  return { width: image.width, height: filters.length, data };
}

const BITS = 22;

/** For each of `count` pixels between two edges, the first pixel that it sees and the factors from there on, in fixed point. */
function filters(size, from, to, count) {
  const scale = (to - from) / count;
  const support = Math.max(scale, 1);
  return Array.from({ length: count }, (_, place) => {
    const centre = from + (place + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), size);
    const factors = Array.from({ length: end - start }, (_, k) => Math.max(1 - Math.abs((k + start - centre + 0.5) * (1 / support)), 0));
    const sum = factors.reduce((total, factor) => total + factor, 0);
    return { start, factors: factors.map((factor) => Math.trunc(0.5 + (factor / sum) * 2 ** BITS)) };
  });
}

function filtered(values, { start, factors }, offset, stride) {
  let sum = 1 << (BITS - 1);
  for (let k = 0; k < factors.length; k++) sum += values[offset + stride * (start + k)] * factors[k];
  return Math.min(sum >> BITS, 255);
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

function channelsFirst({ width, height, data }) {
  const planes = new Uint8Array(data.length);
  for (let place = 0; place < data.length; place++) planes[(place % 3) * width * height + Math.floor(place / 3)] = data[place];
  return planes;
}

/** The answer: the likeliest classes, whether the image is probably of none, the prediction set, and coarser levels. */
export function decide(bundle, arrays, logits, features) {
  const decisions = bundle.decisions;
  const probabilities = softmax(logits.map((logit, k) => logit * scaleOf(decisions, k) + (decisions?.vector?.bias[k] ?? 0)));
  if (!probabilities.every(Number.isFinite)) return withoutAnswer("the answer is not a number");
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const name = (k) => bundle.class_names[k];
  const { score, scores } = decisions?.rejection ?? {};
  const levels = Object.entries(decisions?.backoff ?? {});
  return {
    unknown: score ? SCORES[score](logits, features, arrays) < (scores[score].threshold ?? -Infinity) : null,
    classes: order.slice(0, TOP).map((k) => ({ class: name(k), probability: Number(probabilities[k].toFixed(6)) })),
    among: decisions ? predictionSet(decisions.sets, probabilities, order).map(name) : [],
    coarser: Object.fromEntries(levels.map(([level, rule]) => [level, coarser(rule, probabilities, name(order[0]), bundle.levels[level])])),
    note: "",
  };
}

function withoutAnswer(note) {
  return { unknown: null, classes: [], among: [], coarser: {}, note };
}

function scaleOf(decisions, k) {
  return decisions ? (decisions.vector?.scale[k] ?? 1 / decisions.temperature) : 1;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const exponentials = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = exponentials.reduce((total, each) => total + each, 0);
  return exponentials.map((each) => Math.fround(each / sum));
}

/** The classes that are reached before the mass of those above them, and a penalty on long sets, exceeds a quantile. */
function predictionSet(rule, probabilities, order) {
  let above = 0;
  return order.filter((k, place) => {
    const score = above + rule.penalty * Math.max(place + 1 - rule.k_reg, 0);
    above += probabilities[k];
    return score <= (rule.class_quantiles[k] ?? rule.quantile ?? Infinity);
  });
}

/** The class if it is sure enough, or else the parent whose classes together are, or "". */
function coarser(rule, probabilities, best, parents) {
  if (Math.max(...probabilities) >= (rule.species_threshold ?? Infinity)) return best;
  const sums = new Map();
  probabilities.forEach((probability, k) => sums.set(parents[k], (sums.get(parents[k]) ?? 0) + probability));
  const [parent, sum] = [...sums].reduce((highest, each) => (each[1] > highest[1] ? each : highest));
  return sum >= (rule.parent_threshold ?? Infinity) ? parent : "";
}

/** Logits of all classes, those that were enrolled among them, from features at length 1, and these features. */
function withEnrolled(features, { weight, bias }) {
  const length = Math.sqrt(dot(features, features)) || 1;
  const unit = features.map((each) => each / length);
  return [rows(weight).map((row, k) => dot(row, unit) + bias.values[k]), unit];
}

/** How much an image is like those of the classes: of logits, features and what is in rejection.safetensors. */
export const SCORES = {
  msp: (logits) => 1 / Math.exp(energy(logits) - Math.max(...logits)),
  "max-logit": (logits) => Math.max(...logits),
  energy: (logits) => energy(logits),
  knn: (_, features, { reference }) => nearness(features, reference),
  "max-logit+knn": (logits, features, { reference, largest, nearness: near }) =>
    (Math.max(...logits) - largest.values[0]) / largest.values[1] + (nearness(features, reference) - near.values[0]) / near.values[1],
  mahalanobis: (_, features, { centre, whitening, means }) => {
    const seen = projected(features, centre, whitening);
    const distance = (mean) => mean.reduce((sum, each, k) => sum + each * each - 2 * each * seen[k], 0);
    return -Math.max(dot(seen, seen) + Math.min(...rows(means).map(distance)), 0);
  },
  vim: (logits, features, { origin, outside, scale }) => {
    const rest = projected(features, origin, outside);
    return energy(logits) - scale.values[0] * Math.sqrt(dot(rest, rest));
  },
};

function energy(logits) {
  const largest = Math.max(...logits);
  return largest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
}

/** The mean cosine with the 3 nearest training images. */
function nearness(features, reference) {
  const length = Math.sqrt(dot(features, features)) || 1;
  const cosines = rows(reference).map((row) => dot(features, row) / length);
  const nearest = cosines.sort((a, b) => b - a).slice(0, 3);
  return nearest.reduce((sum, each) => sum + each, 0) / nearest.length;
}

function dot(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}

function rows({ values, shape: [count, width] }) {
  return Array.from({ length: count }, (_, row) => values.subarray(row * width, (row + 1) * width));
}

/** (features - origin) times a matrix. */
function projected(features, origin, matrix) {
  const product = new Float64Array(matrix.shape[1]);
  rows(matrix).forEach((row, k) => row.forEach((each, column) => (product[column] += (features[k] - origin.values[k]) * each)));
  return product;
}

/** The arrays of a safetensors file by their names. */
export function readArrays(file) {
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...header } = JSON.parse(bytes.toString("utf8", 8, start));
  const content = bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length);
  const array = ({ dtype, shape, data_offsets: [from, to] }) => {
    const values = new (dtype === "F64" ? Float64Array : Float32Array)(content.slice(from, to));
    return { values, shape };
  };
  return Object.fromEntries(Object.entries(header).map(([name, entry]) => [name, array(entry)]));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder, ...paths] = process.argv.slice(2);
  const answer = await open(folder);
  for (const path of paths) {
    const found = await Promise.resolve()
      .then(() => answer(readFileSync(path)))
      .catch((error) => withoutAnswer(error.message));
    console.log(JSON.stringify({ path, ...found }));
  }
}
