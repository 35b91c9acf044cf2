"use strict";
// Shows pairs of answers and sends verdicts. Every text goes in by textContent, never as HTML.
const $ = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-key]")];
let pair = null; // what is shown
let skipped = []; // ids, since the page was loaded
let skips = 0; // of these, since the last verdict: undo takes them back first
let graded = 0;
let busy = false;

async function ask(path, body) {
  const headers = { "content-type": "application/json" };
  const key = sessionStorage.getItem("fastroute-key"); // of a gateway
  if (key) headers.authorization = `Bearer ${key}`;
  const options = { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(path, options).catch(() => {
    throw new Error("fastroute does not answer. If it was stopped, start it again and open its new address.");
  });
  const read = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(read.error ? read.error.message : `HTTP ${answer.status}`);
  return read;
}

function problem(said) {
  $("problem").textContent = said;
  $("problem").hidden = !said;
}

function show(state, said) {
  ({ pair, graded } = state);
  $("pair").hidden = !pair;
  $("done").hidden = !!pair;
  if (pair) {
    $("prompt").textContent = pair.prompt;
    pair.answers.forEach((text, i) => { $(`answer-${i + 1}`).textContent = text; });
    scrollTo(0, 0);
    $("question").focus({ preventScroll: true });
  } else {
    const left = state.total - graded;
    $("done-title").textContent = !state.total ? "There are no pairs yet" : left ? "Only skipped pairs are left" : "All pairs are graded";
    $("done-said").textContent = left || !state.total ? "" : "Every verdict is saved. You can close this page.";
    $("again").hidden = !left;
    $("done").focus();
  }
  for (const button of buttons) button.disabled = !pair && button.dataset.key !== "u";
  const waiting = skipped.length ? `, ${skipped.length} skipped` : "";
  $("progress").textContent = `${said}${graded} of ${state.total} graded${waiting}`;
  $("bar").max = state.total;
  $("bar").value = graded;
}

async function act(key) {
  if (busy || (!pair && key !== "u")) return;
  busy = true;
  let path = "next";
  let said = "";
  const before = { skipped, skips };
  const body = {};
  if (key === "s") {
    skipped = [...skipped, pair.id];
    skips += 1;
    said = "Skipped. ";
  } else if (key === "u" && skips) {
    skipped = skipped.slice(0, -1);
    skips -= 1;
    said = "Not skipped. ";
  } else if (key === "u") {
    path = "undo";
    said = "Undone. ";
  } else {
    path = "grade";
    Object.assign(body, { id: pair.id, key });
    said = "Saved. ";
    skips = 0;
  }
  try {
    const state = await ask(path, { ...body, skipped });
    if (path === "undo" && state.graded === graded) said = "There is nothing to undo. ";
    show(state, said);
    problem("");
  } catch (error) {
    ({ skipped, skips } = before);
    problem(`Not saved: ${error.message}`);
  }
  busy = false;
}

for (const button of buttons) button.addEventListener("click", () => act(button.dataset.key));
$("again").addEventListener("click", () => { skipped = []; skips = 0; load(); });
addEventListener("keydown", (event) => {
  const pressed = event.key.toLowerCase();
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !$("keys").checked) return;
  if (buttons.some((button) => button.dataset.key === pressed)) act(pressed);
});

async function load() {
  try {
    show(await ask("next", { skipped }), "");
    problem("");
  } catch (error) {
    problem(error.message);
  }
}
load();
