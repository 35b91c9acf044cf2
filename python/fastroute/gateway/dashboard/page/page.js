"use strict";
// The gateway's page. Every text from outside goes in by textContent, never as HTML.
const $ = (id) => document.getElementById(id);
const percent = (x) => `${(100 * x).toFixed(1)}\u00a0%`;
const number = (x) => x.toLocaleString("en", { maximumFractionDigits: 0 });
// To the cent; three significant digits below a dollar.
const dollars = (x) => {
  const digits = x === 0 ? 2 : Math.min(Math.max(2, 2 - Math.floor(Math.log10(Math.abs(x)))), 9);
  return `${x < 0 ? "−" : ""}$${Math.abs(x).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
};
// Why a cascade sent an answer, and whose that is.
const REASONS = {
  agree: ["the cheap models agree", "cheap"],
  accepted: ["the acceptance model accepts a cheap answer", "cheap"],
  disagree: ["the cheap models disagree", "strong"],
  rejected: ["the acceptance model rejects the cheap answers", "strong"],
  late: ["the cheap models were late", "strong"],
  failed: ["a model failed", "what there was"],
  incomparable: ["the answers can't be compared", "by the prompt"],
};
const OUTCOMES = { sent: "sent", agreed: "agrees with it", not_sent: "not sent", cancelled: "cancelled", failed: "failed", repeated: "repeated" };
const CANDIDATES = "";  // the router's name for a choice among candidates
let curve = null;
let hasPair = true;

function problem(said, where = "problem") {
  $(where).textContent = said || "";
  $(where).hidden = !said;
}

async function ask(path, body) {
  const headers = {};
  const key = sessionStorage.getItem("fastroute-key");
  if (key) headers.authorization = `Bearer ${key}`;
  const options = { headers };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    options.method = "POST";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const read = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    $("unlock").hidden = false;
    throw new Error("Authentication required: enter an API key of this gateway.");
  }
  if (!answer.ok) throw new Error(read.error ? read.error.message : `HTTP ${answer.status}`);
  return read;
}

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

async function decide(event) {
  if (event) event.preventDefault();
  problem("");
  const chosen = $("router").value === CANDIDATES;
  const model = chosen ? "fastroute" : `router-${$("router").value}-${Number($("threshold").value)}`;
  const body = { model, messages: [{ role: "user", content: $("prompt").value }] };
  try {
    const found = await ask("v1/route", body);
    $("choice").hidden = !chosen;
    if (chosen) {
      $("decision").hidden = $("neighbors").hidden = true;
      showChoice(found);
      return;
    }
    const box = $("decision");
    box.className = found.strong ? "is-strong" : "is-weak";
    $("side").textContent = found.strong ? "The strong model:" : "The weak model:";
    $("model").textContent = found.model;
    $("bar").style.width = `${100 * found.win_rate}%`;
    $("mark").style.left = `${100 * found.threshold}%`;
    const sign = found.strong ? "≥" : "<";
    $("said").textContent = `win rate ${found.win_rate.toFixed(4)} ${sign} threshold ${found.threshold} · ${found.difficulty === null ? "" : `harder than ${percent(found.difficulty)} · `}${found.decision_us.toFixed(0)} µs`;
    $("meter").setAttribute("aria-label", $("said").textContent);
    box.hidden = false;
    await showNeighbors(body);
  } catch (error) {
    problem(error.message);
  }
}

function showChoice(found) {
  $("choice-said").textContent = `${found.policy} chooses`;
  $("choice-model").textContent = found.model;
  const rows = $("candidates").tBodies[0];
  rows.replaceChildren();
  for (const row of found.candidates) {
    const line = element("tr", undefined, rows);
    line.className = row.name === found.model ? "is-chosen" : row.eligible ? "" : "is-excluded";
    const name = element("td", row.name, line);
    if (row.reason) element("small", row.reason, name);
    const quality = element("td", row.quality.toFixed(3), line);
    element("small", `${row.low.toFixed(3)}–${row.high.toFixed(3)}`, quality);
    element("td", dollars(row.usd), line);
  }
  const notes = [`${found.decision_us.toFixed(0)} µs`];
  if (found.abstained) notes.unshift("No graded prompt is like this one, so each model has its usual level");
  $("choice-note").textContent = `${notes.join(" · ")}.`;
  $("graded").replaceChildren();
  for (const near of found.nearest) {
    const item = element("li", near.prompt, $("graded"));
    const grades = Object.entries(near.scores).map(([name, score]) => `${name} ${score.toFixed(2)}`);
    element("small", `similarity ${near.similarity.toFixed(3)} · ${grades.join(", ")}`, item);
  }
  $("nearest").hidden = found.nearest.length === 0;
}

async function showNeighbors(body) {
  const { battles } = await ask("ui/neighbors", body);
  const list = $("battles");
  list.replaceChildren();
  for (const battle of battles) {
    const item = element("li", battle.prompt.length > 240 ? `${battle.prompt.slice(0, 240)}…` : battle.prompt, list);
    element("small", `similarity ${battle.similarity.toFixed(3)} · ${battle.model_a} against ${battle.model_b}: ${battle.winner}`, item);
  }
  $("neighbors").hidden = battles.length === 0;
}

async function askCascade() {
  const prompt = $("prompt").value;
  problem(prompt ? "" : "Write a prompt above first.", "cascade-problem");
  if (!prompt) return;
  $("ask-cascade").disabled = true;
  try {
    const found = await ask("ui/cascade", { model: "cascade", messages: [{ role: "user", content: prompt }] });
    const sent = found.calls.find((call) => call.outcome === "sent");
    $("evidence-reason").textContent = `${found.votes} of ${found.answers} answers are equal: ${REASONS[found.reason][0]}.`;
    $("evidence-model").textContent = `Sent: ${found.model}`;
    $("answers").replaceChildren();
    for (const call of found.calls) {
      const item = element("li", undefined, $("answers"));
      item.className = call === sent ? "is-sent" : "";
      element("strong", call.model, item);
      const facts = [OUTCOMES[call.outcome]];
      if (call.seconds !== undefined) facts.push(`${call.seconds.toFixed(2)} s`);
      if (call.output_tokens !== undefined) facts.push(`${call.tokens_are_estimates ? "about " : ""}${number(call.input_tokens)} + ${number(call.output_tokens)} tokens`);
      if (call.cost_usd !== undefined) facts.push(dollars(call.cost_usd));
      element("small", facts.join(" · "), item);
      const calls = (call.tool_calls || []).map((tool) => `${tool.name}(${tool.arguments})`);
      const said = [call.text, ...calls].filter(Boolean).join("\n");
      if (said) element("pre", said, item);
    }
    const saved = found.saved_usd;
    $("evidence-cost").textContent = found.cost_usd === null ? "No prices are configured for every model."
      : `Cost: ${dollars(found.cost_usd)}` + (saved === null ? "." : saved < 0 ? `, ${dollars(-saved)} more than the strong model alone.` : `, ${dollars(saved)} less than the strong model alone.`);
    $("evidence").hidden = false;
    await refresh();
  } catch (error) {
    problem(error.message, "cascade-problem");
  } finally {
    $("ask-cascade").disabled = false;
  }
}

function showCascades(found) {
  const all = found.cascades.reduce((sum, row) => sum + row.count, 0);
  $("cascade-live").hidden = all === 0;
  $("cascades").replaceChildren();
  for (const row of found.cascades) {
    const line = element("tr", undefined, $("cascades"));
    for (const text of [row.reason, REASONS[row.reason][1], number(row.count), percent(row.count / all)]) element("td", text, line);
  }
  const calls = found.cascade_calls.map((row) => `${row.model} ${OUTCOMES[row.outcome]} ${number(row.count)}`);
  const saved = found.has_prices ? ` Saved by cascades: ${dollars(found.saved_by_evidence_usd)}.` : "";
  $("cascade-calls").textContent = `Calls: ${calls.join(", ")}.${saved}`;
}

async function refresh() {
  if (document.hidden) return;
  const found = await ask("ui/stats");
  $("unlock").hidden = true;
  const tiles = [
    ["Requests", number(found.requests)],
    ["In progress", number(found.in_flight)],
    ...(hasPair ? [["To the strong model", found.decisions ? percent(found.strong / found.decisions) : "–"]] : []),
    ...(found.held ? [["Held share", found.held.decisions ? percent(found.held.strong / found.held.decisions) : "–", `of ${percent(found.held.strong_share)}, at threshold ${found.held.threshold.toFixed(4)}`]] : []),
    ["Spent", found.has_prices ? dollars(found.spent_usd) : "no prices", found.estimated_usd ? `${dollars(found.estimated_usd)} of it estimated` : ""],
    ...(hasPair ? [["Saved", found.has_prices ? dollars(found.saved_usd) : "no prices"]] : []),
    ...(found.spending ? [["Spent of the ceiling", dollars(found.spending.spent_usd), `${dollars(found.spending.balance_usd)} may be spent now; 0.01 of P(success) may cost ${dollars(0.01 / found.spending.quality_per_usd)}; ${number(found.spending.overdrafts)} choices beyond the balance`]] : []),
  ];
  $("tiles").replaceChildren();
  for (const [name, value, note] of tiles) {
    const tile = element("div", undefined, $("tiles"));
    element("dt", name, tile);
    element("dd", value, tile);
    if (note) element("dd", note, tile).className = "hint";
  }
  showCascades(found);
  $("decisions").replaceChildren();
  for (const row of found.by_model) {
    const line = element("tr", undefined, $("decisions"));
    for (const text of [row.router, row.model, number(row.count), percent(row.count / found.decisions)]) element("td", text, line);
  }
}

const X = (share) => 60 + 550 * share;
const Y = (kept) => 270 - 250 * kept;

function shape(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  $("curve").append(made);
  return made;
}

async function loadCurve() {
  curve = await ask(`ui/curve?router=${encodeURIComponent($("router").value)}`);
  $("curve-section").hidden = curve.thresholds.length === 0;
  if (!curve.thresholds.length) return;
  $("curve").replaceChildren();
  for (const at of [0, 0.25, 0.5, 0.75, 1]) {
    shape("path", { class: "axis", d: `M${X(0)} ${Y(at)}H${X(1)}` });
    shape("text", { x: X(0) - 8, y: Y(at) + 5, "text-anchor": "end" }, `${100 * at} %`);
    shape("text", { x: X(at), y: Y(0) + 22, "text-anchor": "middle" }, `${100 * at} %`);
  }
  shape("text", { x: X(0.5), y: 316, "text-anchor": "middle" }, "calls to the strong model");
  shape("text", { x: X(0) + 6, y: 16 }, "advantage kept");
  shape("path", { class: "even", d: `M${X(0)} ${Y(0)}L${X(1)} ${Y(1)}` });
  const points = curve.shares.map((share, i) => `${X(share).toFixed(1)} ${Y(curve.kept[i]).toFixed(1)}`);
  shape("path", { class: "line", d: `M${points.join("L")}` });
  shape("circle", { id: "dot", r: 8 });
  // The slider steps through the thresholds, which span the router's range of win rates.
  const last = curve.thresholds.length - 1;
  const asked = Number($("threshold").value);
  const next = curve.thresholds.findIndex((t) => t >= asked);
  $("slider").max = last;
  $("slider").value = next < 0 ? last : next;
  $("slider-min").textContent = curve.thresholds[0].toFixed(4);
  $("slider-max").textContent = curve.thresholds[last].toFixed(4);
  moveDot();
}

function moveDot() {
  const i = Number($("slider").value);
  const threshold = curve.thresholds[i].toFixed(4);
  $("dot").setAttribute("cx", X(curve.shares[i]));
  $("dot").setAttribute("cy", Y(curve.kept[i]));
  $("slider-value").textContent = threshold;
  $("slider").setAttribute("aria-valuetext", `threshold ${threshold}`);
  let said = `${percent(curve.shares[i])} of calls to the strong model keep ${percent(curve.kept[i])} of its advantage`;
  if (curve.price_ratio !== null) {
    const cost = curve.shares[i] + (1 - curve.shares[i]) * curve.price_ratio;
    said += `, at ${percent(cost)} of its cost`;
  }
  $("curve-said").textContent = `${said}.`;
}

function showThreshold() {
  $("threshold-label").hidden = $("router").value === CANDIDATES;
}

async function start() {
  try {
    const about = await ask("ui/about");
    $("unlock").hidden = true;
    hasPair = about.strong_model !== "";
    const pair = hasPair ? [`strong: ${about.strong_model}`, `weak: ${about.weak_model}`] : [];
    if (about.candidates.length) pair.push(`${about.candidates.length} candidates by ${about.policy}`);
    $("pair").textContent = [...pair, about.version].join(" · ");
    $("label-section").hidden = !about.has_pairs;
    $("cascade-section").hidden = about.helpers.length === 0;
    $("cascade-said").textContent = `Sends the prompt above to ${[about.weak_model, ...about.helpers].join(", ")}, and to ${about.strong_model} where their answers differ. These calls are billed.`;
    $("router").replaceChildren();
    if (about.candidates.length) element("option", "candidates", $("router")).value = CANDIDATES;
    for (const name of about.routers) element("option", name, $("router")).value = name;
    $("router").value = about.candidates.length ? CANDIDATES : about.default_router;
    showThreshold();
    $("threshold").value = Number(about.threshold.toFixed(4));
    await refresh();
    await loadCurve();
    problem("");
  } catch (error) {
    problem(error.message);
  }
}

$("route-form").addEventListener("submit", decide);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("route-form").requestSubmit();
});
$("router").addEventListener("change", showThreshold);
$("router").addEventListener("change", () => loadCurve().catch((error) => problem(error.message)));
$("slider").addEventListener("input", moveDot);
$("adopt").addEventListener("click", () => {
  $("threshold").value = Number($("slider-value").textContent);
  $("prompt").focus();
});
$("ask-cascade").addEventListener("click", askCascade);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("fastroute-key", $("key").value);
  $("key").value = "";
  start();
});
start();
setInterval(() => refresh().catch(() => {}), 2000);
