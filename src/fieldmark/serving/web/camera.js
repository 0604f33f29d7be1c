"use strict";
// The live camera: one frame at a time goes to the server, and the answer shown is steady over frames.

/** One answer from those for many frames: probabilities are averaged, the newest counting most, and a class has to lead for several frames to be shown. */
class Steady {
  /** @param settles the seconds after which what was seen before counts for a third. */
  constructor({ settles = 0.6, frames = 5 } = {}) {
    Object.assign(this, { settles, frames, mean: new Map(), unknown: null, isUnknown: null, shown: null, leader: null, led: 0, last: null });
  }

  /** The answer to show once `answer` has come, so many seconds after the one before. */
  add(answer, seconds) {
    const weight = this.mean.size === 0 ? 1 : 1 - Math.exp(-seconds / this.settles);
    for (const [name, probability] of this.mean) this.mean.set(name, (1 - weight) * probability);
    for (const { name, probability } of answer.classes) this.mean.set(name, (this.mean.get(name) ?? 0) + weight * probability);
    const order = [...this.mean].sort((one, other) => other[1] - one[1]);
    this.lead(order[0][0]);
    if (answer.unknown !== null) this.unknown = (1 - weight) * (this.unknown ?? 0) + weight * answer.unknown;
    this.isUnknown = this.unknown === null ? null : this.unknown > (this.isUnknown ? 0.35 : 0.65);
    if (this.last === null || answer.classes[0].name === this.shown) this.last = answer;
    const first = order.splice(order.findIndex(([name]) => name === this.shown), 1);
    const classes = [...first, ...order].slice(0, 5).map(([name, probability]) => ({ name, probability }));
    return { ...this.last, classes, unknown: this.isUnknown };
  }

  lead(name) {
    this.led = name === this.leader ? this.led + 1 : 1;
    this.leader = name;
    if (this.shown === null || this.led >= this.frames) this.shown = name;
  }
}

const LARGEST = 640;
const TOP = 25;
const CALM = 150; // milliseconds between two changes of what is shown
const REFUSED = {
  NotAllowedError: ["The camera may not be used", "Allow it for this page in the browser's settings, or choose an image."],
  NotFoundError: ["There is no camera", "Connect one, or choose an image."],
  NotReadableError: ["The camera is in use", "Close the program that uses it, or choose an image."],
};

class Camera {
  static get allowed() {
    return Boolean(navigator.mediaDevices?.getUserMedia);
  }

  constructor() {
    this.video = element("video");
    this.facing = "environment";
  }

  get on() {
    return Boolean(this.video.srcObject);
  }

  /** Throws a Failure if there is no camera to be used. */
  async start() {
    this.stop();
    try {
      const wanted = { facingMode: this.facing, width: { ideal: 1280 }, height: { ideal: 960 } };
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      await this.video.play();
    } catch (error) {
      this.stop();
      throw new Failure(...(REFUSED[error.name] ?? ["The camera does not work", "Choose an image instead."]), { status: -1 });
    }
    const settings = this.video.srcObject.getVideoTracks()[0].getSettings();
    this.video.classList.toggle("mirrored", settings.facingMode === "user");
  }

  stop() {
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
  }

  async turn() {
    this.facing = this.facing === "user" ? "environment" : "user";
    await this.start();
  }

  async severalThere() {
    return (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput").length > 1;
  }

  /** The picture of this moment as a JPEG, no side longer than `largest`. */
  frame(largest = LARGEST) {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, largest / Math.max(width, height));
    const canvas = Object.assign(document.createElement("canvas"), { width: Math.round(scale * width), height: Math.round(scale * height) });
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  }

  /** Calls `shown` with the steady answer and the answers a second, at the rate at which answers come, until the signal aborts. Throws a Failure that does not pass. */
  async follow(model, signal, shown) {
    const steady = new Steady();
    let began = performance.now();
    let [seconds, drawn] = [null, -Infinity];
    while (!signal.aborted) {
      await new Promise(requestAnimationFrame);
      try {
        const { answers } = await api.predict(model, await this.frame(), TOP, signal);
        const took = (performance.now() - began) / 1000;
        began = performance.now();
        seconds = seconds === null ? took : 0.9 * seconds + 0.1 * took;
        const answer = steady.add(answers[0], took);
        if (signal.aborted || began - drawn < CALM) continue;
        drawn = began;
        shown(answer, 1 / seconds);
      } catch (failure) {
        if (!failure.wait) throw failure;
        await pause(failure.wait, signal);
      }
    }
  }
}
