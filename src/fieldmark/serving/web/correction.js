"use strict";
// Telling the server what an image really shows, where it keeps that.

const MATCHES = 6;

/** Names that contain all words of what is looked for, those first that begin with it. */
function matching(names, wanted) {
  const text = plain(wanted);
  const words = text.split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const found = names.filter((name) => words.every((word) => plain(name).includes(word)));
  return found.sort((one, other) => plain(other).startsWith(text) - plain(one).startsWith(text)).slice(0, MATCHES);
}

const plain = (text) => text.trim().normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** @param {(name: string) => void} choose called with the name of the right class. */
class Correction {
  constructor(choose) {
    this.names = [];
    this.choose = choose;
    this.field = element("search");
    this.list = element("matches");
    this.field.addEventListener("input", () => this.show());
    this.field.addEventListener("keydown", (event) => this.move(event));
    this.list.addEventListener("keydown", (event) => this.move(event));
  }

  reset() {
    this.field.value = "";
    this.list.replaceChildren();
    this.say("");
  }

  say(text, isWrong = false) {
    element("kept").textContent = text;
    element("kept").classList.toggle("wrong", isWrong);
  }

  show() {
    const wanted = this.field.value.trim();
    const found = matching(this.names, wanted);
    const options = found.map((name) => this.option(name, name));
    if (wanted && !found.some((name) => plain(name) === plain(wanted))) options.push(this.option(wanted, `“${wanted}”, which is new`));
    this.list.replaceChildren(...options);
  }

  option(name, label) {
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("button"), { type: "button", textContent: label, onclick: () => this.choose(name) }));
    return item;
  }

  move(event) {
    const stops = [this.field, ...this.list.querySelectorAll("button")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) stops[Math.min(Math.max(stops.indexOf(document.activeElement) + step, 0), stops.length - 1)].focus();
    else if (event.key === "Enter" && event.target === this.field) stops[1]?.click();
    else if (event.key === "Escape") this.reset();
    else return;
    event.preventDefault();
  }

  /** Mark the class that was kept. */
  kept(name) {
    this.reset();
    for (const button of document.querySelectorAll("#classes .right")) button.setAttribute("aria-pressed", String(button.dataset.name === name));
    this.say(`Kept as ${name}. Thank you.`);
  }
}
