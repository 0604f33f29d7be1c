"use strict";
// An answer as it is shown: in words, in bars, as a map over the image, and beside training images.

/** A probability as a percentage, never rounded to certainty. */
function percent(probability) {
  const value = 100 * probability;
  if (value < 0.1) return "<\u00a00.1\u00a0%";
  if (value > 99.9) return ">\u00a099.9\u00a0%";
  return `${value < 10 || value > 99 ? value.toFixed(1) : Math.round(value)}\u00a0%`;
}

const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`);

/** What is said of an answer: [eyebrow, headline, summary]. */
function inWords(answer, calibrated) {
  const [best] = answer.classes;
  const share = percent(best.probability);
  const inQuestion = answer.set.length > 1 ? `In question: ${answer.set.length > 3 ? `${answer.set.length} classes, in bold` : listed(answer.set)}.` : "";
  if (answer.unknown) {
    return ["Unlike the images that the model knows", "Unknown", `It is probably none of its classes. The nearest is ${best.name}.`];
  }
  const [level, parent] = Object.entries(answer.coarser).find(([, name]) => name && name !== best.name) ?? [];
  if (parent) return [`Sure of the ${level} only`, parent, `Likeliest of all: ${best.name}, ${share}. ${inQuestion}`];
  if (!calibrated) return ["Likeliest", best.name, "This model is not calibrated: its percentages may promise too much."];
  const unsure = answer.set.length > 1 || best.probability < 0.5;
  return [unsure ? "Probably" : "It is", best.name, answer.set.length === 1 ? "No other class is in question." : inQuestion];
}

/** Show an answer. choose: called with the name of a class that is said to be right; none if answers cannot be corrected. */
function showAnswer(answer, calibrated, choose) {
  const [eyebrow, headline, summary] = inWords(answer, calibrated);
  element("eyebrow").textContent = eyebrow;
  element("headline").textContent = headline;
  element("summary").textContent = summary;
  element("answer").classList.toggle("is-unknown", answer.unknown === true);
  showBars(answer, choose);
  const set = element("set");
  set.hidden = answer.unknown || answer.set.length <= answer.classes.length;
  set.firstChild.textContent = `All ${answer.set.length} classes in question`;
  set.lastChild.textContent = answer.set.join(", ");
  element("note").hidden = !answer.note;
  element("note").textContent = answer.note;
  element("answer").hidden = false;
}

function showBars(answer, choose) {
  const rows = element("classes");
  while (rows.children.length > answer.classes.length) rows.lastChild.remove();
  answer.classes.forEach(({ name, probability }, index) => {
    const row = rows.children[index] ?? rows.appendChild(newRow());
    const inQuestion = answer.set.includes(name);
    row.classList.toggle("in-question", inQuestion && !answer.unknown);
    row.querySelector(".name").textContent = name;
    row.querySelector(".share").textContent = percent(probability);
    row.querySelector(".bar span").style.width = `${100 * probability}%`;
    const right = row.querySelector("button");
    right.hidden = !choose;
    right.setAttribute("aria-label", `It is ${name}`);
    right.title = `It is ${name}`;
    right.dataset.name = name;
    right.setAttribute("aria-pressed", "false");
    right.onclick = () => choose(name);
  });
}

function newRow() {
  const row = document.createElement("li");
  const add = (kind, name, parent = row) => Object.assign(parent.appendChild(document.createElement(kind)), { className: name });
  add("span", "name");
  add("span", "share");
  const bar = add("span", "bar");
  bar.setAttribute("aria-hidden", "true");
  add("span", "", bar);
  Object.assign(add("button", "right"), { type: "button", textContent: "✓" });
  return row;
}

const RAMP = [[24, 15, 70], [114, 31, 129], [205, 64, 113], [253, 150, 104], [252, 253, 191]];

/** The colour of a grey value of the map, from dark to bright, the more of it the more it covers. */
function heat(value) {
  const place = (value / 255) * (RAMP.length - 1);
  const lower = Math.min(Math.floor(place), RAMP.length - 2);
  return [...RAMP[lower].map((channel, index) => channel + (place - lower) * (RAMP[lower + 1][index] - channel)), 30 + 0.55 * value];
}

/** The square that the network saw, and over it the map if there is one. */
class Picture {
  async load({ seen, map }) {
    [this.seen, this.map] = await Promise.all([decoded(seen), map && decoded(map.png).then(coloured)]);
  }

  draw(withMap) {
    const canvas = element("seen");
    canvas.width = canvas.height = Math.max(this.seen.naturalWidth, 640);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    for (const layer of [this.seen, withMap && this.map]) if (layer) context.drawImage(layer, 0, 0, canvas.width, canvas.height);
    const over = withMap && this.map ? ", with where in it the evidence lies" : "";
    canvas.setAttribute("aria-label", `The square of your image that the network saw${over}`);
  }
}

async function decoded(source) {
  const image = Object.assign(new Image(), { src: source });
  await image.decode();
  return image;
}

function coloured(grey) {
  const canvas = Object.assign(document.createElement("canvas"), { width: grey.naturalWidth, height: grey.naturalHeight });
  const context = canvas.getContext("2d");
  context.drawImage(grey, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(heat(pixels.data[at]), at);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function showNeighbours(seen, neighbours) {
  element("neighbours").hidden = neighbours.length === 0;
  if (neighbours.length === 0) return;
  element("neighbours-title").textContent = `Yours, and the nearest training images of ${neighbours[0].class}`;
  element("pictures").replaceChildren(
    card(seen, "The square of your image that the network saw", "yours"),
    ...neighbours.map((each) => card(each.thumbnail, `Training image ${each.path}`, each.similarity.toFixed(2), `${each.path}, similarity ${each.similarity.toFixed(2)}`)),
  );
}

function card(source, alt, caption, title = "") {
  const item = Object.assign(document.createElement("li"), { title });
  if (source) item.append(Object.assign(new Image(), { src: source, alt }));
  else item.append(Object.assign(document.createElement("p"), { className: "missing", textContent: "not readable" }));
  item.append(Object.assign(document.createElement("span"), { className: "soft small", textContent: caption }));
  return item;
}
