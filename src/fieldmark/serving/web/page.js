"use strict";
// What happens on the page: an image comes in, by whichever way, and its answer is shown.

const state = { models: [], model: null, feedback: false, image: null, answer: null, working: null };
const camera = new Camera();
const picture = new Picture();
const correction = new Correction(correct);
const classes = new Map();

const model = () => state.models.find((each) => each.name === state.model);

/** "empty", "waiting", "answered", "failed" or "camera": what the page shows. */
function show(what) {
  document.body.dataset.state = what;
  element("stop").hidden = element("hold").hidden = what !== "camera";
  element("camera").hidden = !Camera.allowed || what === "camera";
  if (what !== "camera") element("turn").hidden = true;
  element("capture-choice").hidden = Camera.allowed;
  element("under").hidden = what === "empty";
  if (what === "answered") return;
  element("caption").textContent = "";
  element("map").hidden = true;
}

/** What a screen reader says, when it has said the rest. */
function speak(text) {
  if (element("spoken").textContent !== text) element("spoken").textContent = text;
}

function showFailure(failure, again) {
  if (!(failure instanceof Failure)) {
    console.error(failure);
    failure = new Failure("Something is wrong with this page", "Load it again.", { status: -1 });
  }
  if (failure.status === 401) {
    lock();
    return;
  }
  element("trouble-title").textContent = failure.title;
  element("trouble-advice").textContent = failure.advice;
  element("trouble-said").textContent = failure.said;
  element("retry").hidden = !(again && failure.passes);
  element("retry").onclick = () => again();
  element("trouble").hidden = false;
}

/** Ends what is under way. Returns the signal of what begins. */
function begin() {
  state.working?.abort();
  state.working = new AbortController();
  element("trouble").hidden = true;
  return state.working.signal;
}

const isAbort = (error) => error.name === "AbortError";

async function takeImage(file) {
  if (!file) return;
  camera.stop();
  state.image = file;
  URL.revokeObjectURL(element("preview").src);
  element("preview").hidden = false;
  element("preview").src = URL.createObjectURL(file);
  await (model() ? answer() : loadModels());
}

/** Ask for the image that was given last. */
async function answer() {
  const signal = begin();
  const image = state.image;
  element("answer").hidden = true;
  show("waiting");
  speak("Looking at the image.");
  try {
    const explained = await patiently(() => api.explain(state.model, image, signal), signal);
    await picture.load(explained);
    if (signal.aborted) return;
    state.answer = explained.answer;
    element("trouble").hidden = true;
    drawPicture();
    showAnswer(explained.answer, model().calibrated, state.feedback && correct);
    showNeighbours(explained.seen, explained.neighbours);
    show("answered");
    speak(`${element("eyebrow").textContent}: ${element("headline").textContent}, ${percent(explained.answer.classes[0].probability)}. ${element("summary").textContent}`);
    offerCorrection();
  } catch (error) {
    if (isAbort(error)) return;
    show(element("preview").hidden ? "empty" : "failed");
    speak("");
    showFailure(error, answer);
  }
}

/** Does it again by itself, when the server asks for patience, three times at most. */
async function patiently(request, signal) {
  for (let tried = 1; ; tried++) {
    try {
      return await request();
    } catch (failure) {
      if (!failure.wait || tried > 3) throw failure;
      showFailure(failure, answer);
      await pause(failure.wait, signal);
    }
  }
}

function drawPicture() {
  const map = element("map");
  map.hidden = !picture.map;
  element("caption").textContent = "What the network saw";
  picture.draw(map.getAttribute("aria-checked") === "true");
}

async function offerCorrection() {
  element("correct").hidden = !state.feedback;
  if (!state.feedback) return;
  correction.reset();
  const asked = state.model;
  if (!classes.has(asked)) classes.set(asked, await api.classes(asked).catch(() => []));
  if (asked !== state.model) return;
  correction.names = classes.get(asked);
  correction.show();
}

async function correct(name) {
  const image = state.image;
  try {
    await api.correct(state.model, image, name, state.answer.unknown ? "unknown" : state.answer.classes[0].name);
    if (image === state.image) correction.kept(name);
  } catch (failure) {
    if (failure.status === 401) lock();
    else correction.say(`Not kept. ${failure.title}. ${failure.advice}`, true);
  }
}

async function useCamera(start) {
  const signal = begin();
  element("answer").hidden = true;
  try {
    await start();
    if (signal.aborted) {
      camera.stop();
      return;
    }
    show("camera");
    element("turn").hidden = !(await camera.severalThere());
    element("correct").hidden = element("neighbours").hidden = true;
    element("hold").focus();
    let spoken = -Infinity;
    await camera.follow(state.model, signal, (steady, rate) => {
      showAnswer(steady, model().calibrated);
      element("caption").textContent = `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} answers a second`;
      if (performance.now() - spoken < 4000) return;
      spoken = performance.now();
      speak(element("headline").textContent);
    });
  } catch (error) {
    if (isAbort(error)) return;
    stopCamera();
    showFailure(error, () => useCamera(start));
  }
}

function stopCamera() {
  begin();
  camera.stop();
  state.image = null;
  element("answer").hidden = true;
  show("empty");
}

async function holdPicture() {
  const frame = await camera.frame(Infinity);
  await takeImage(new File([frame], "camera.jpg", { type: "image/jpeg" }));
}

function takeFiles(transfer) {
  const file = [...transfer.files].find((each) => each.type.startsWith("image/")) ?? transfer.files[0];
  if (file) takeImage(file);
  else if (transfer.types.includes("text/uri-list")) {
    begin();
    showFailure(new Failure("That was a link, and nothing is fetched from other places", "Save the image, then drop the file.", { status: -1 }));
  }
}

function lock() {
  const wasTried = sessionStorage.getItem(KEY) !== null;
  sessionStorage.removeItem(KEY);
  element("unlock").hidden = false;
  element("unlock-trouble").textContent = wasTried ? "This is not the key." : "";
  document.body.classList.add("locked");
  element("key").value = "";
  element("key").focus();
}

function unlock(event) {
  event.preventDefault();
  const key = element("key").value.trim();
  if (/[^\x20-\x7e]/.test(key)) {
    element("unlock-trouble").textContent = "This is not the key.";
    return;
  }
  sessionStorage.setItem(KEY, key);
  loadModels();
}

async function loadModels() {
  try {
    const { models, feedback } = await api.models();
    Object.assign(state, { models, feedback, model: state.model ?? models[0].name });
  } catch (error) {
    showFailure(error, loadModels);
    return;
  }
  const wasLocked = document.body.classList.contains("locked");
  element("unlock").hidden = element("trouble").hidden = true;
  document.body.classList.remove("locked");
  element("model").replaceChildren(...state.models.map((each) => new Option(each.name, each.name)));
  element("model").value = state.model;
  element("model-choice").hidden = state.models.length < 2;
  describeModel();
  if (state.image) await answer();
  else if (wasLocked) element("file").focus();
}

function describeModel() {
  const { name, network, classes: count } = model();
  const named = state.models.length < 2 ? [`${name} · `] : [];
  const kind = Object.assign(document.createElement("span"), { className: "network", textContent: `${network} · ` });
  element("served").replaceChildren(...named, kind, `${count.toLocaleString("en")} classes`);
}

function chooseModel(name) {
  state.model = name;
  describeModel();
  if (camera.on) useCamera(() => camera.start());
  else if (state.image) answer();
}

for (const id of ["file", "capture"]) {
  element(id).addEventListener("change", ({ target }) => {
    takeImage(target.files[0]);
    target.value = "";
  });
}
element("preview").addEventListener("error", () => (element("preview").hidden = true));
element("camera").addEventListener("click", () => useCamera(() => camera.start()));
element("turn").addEventListener("click", () => useCamera(() => camera.turn()));
element("stop").addEventListener("click", stopCamera);
element("hold").addEventListener("click", holdPicture);
element("unlock").addEventListener("submit", unlock);
element("model").addEventListener("change", ({ target }) => chooseModel(target.value));
element("map").addEventListener("click", ({ target }) => {
  target.setAttribute("aria-checked", String(target.getAttribute("aria-checked") !== "true"));
  drawPicture();
});
element("frame").addEventListener("click", () => document.body.dataset.state === "empty" && element("file").click());
addEventListener("paste", ({ clipboardData }) => takeFiles({ files: clipboardData.files, types: [] }));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragged-over");
});
addEventListener("dragleave", ({ relatedTarget }) => relatedTarget ?? document.body.classList.remove("dragged-over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged-over");
  takeFiles(event.dataTransfer);
});
document.addEventListener("visibilitychange", () => document.hidden && camera.on && stopCamera());

show("empty");
loadModels();
