"use strict";
// The tabs of the journal and of savings.
const day = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 10);

function period(stats) {
  if (!stats.rows.requests) return "No request yet.";
  const [first, last] = [day(stats.first_time), day(stats.last_time)];
  return first === last ? `Requests of ${first} (UTC).` : `Requests from ${first} to ${last} (UTC).`;
}

function tile(list, name, value) {
  const box = element("div", undefined, list);
  element("dt", name, box);
  element("dd", value, box);
}

function showJournal(stats) {
  $("journal-section").hidden = !stats;
  if (!stats) return;
  const rows = stats.rows;
  $("journal-said").textContent = period(stats);
  $("journal-tiles").replaceChildren();
  for (const [name, value] of [
    ["Requests", number(rows.requests)], ["Prompts kept", number(stats.prompts)],
    ["Answers kept", number(stats.answers)], ["Graded requests", number(stats.graded_requests)],
    [`Shadows (${dollars(stats.shadow_usd)})`, number(rows.shadows)],
    [`Judgements (${dollars(stats.judge_usd)})`, number(rows.judgements)],
  ]) tile($("journal-tiles"), name, value);
  $("journal-models").replaceChildren();
  for (const model of stats.models) {
    const line = element("tr", undefined, $("journal-models"));
    element("th", model.model ?? "no answer", line).scope = "row";
    element("td", number(model.requests), line);
    element("td", model.cost_usd === null ? "–" : dollars(model.cost_usd), line);
    element("td", `${number(Math.round(model.mean_latency_ms ?? 0))} ms`, line);
    element("td", number(model.errors), line);
  }
}

function estimate(found, line) {
  const cell = element("td", dollars(found.usd), line);
  element("small", found.low === null ? " without an interval" : ` ${dollars(found.low)} to ${dollars(found.high)}`, cell);
}

function showSavings(months) {
  $("savings-section").hidden = !months || !months.length;
  $("savings-months").replaceChildren();
  const names = document.querySelectorAll("#savings-section thead th");
  for (const month of months ?? []) {
    const line = element("tr", undefined, $("savings-months"));
    element("th", month.month, line).scope = "row";
    estimate(month.saved_usd, line);
    element("td", dollars(month.paid_usd), line);
    element("td", dollars(month.shadow_usd + month.judge_usd), line);
    for (const name of ["always_strong_usd", "always_weak_usd"]) estimate(month[name], line);
    element("td", number(month.requests), line);
    for (const [i, cell] of [...line.cells].entries()) cell.dataset.name = names[i].textContent;
  }
}

async function refreshJournal() {
  if (document.hidden) return;
  const found = await ask("ui/journal");
  showJournal(found.stats);
  showSavings(found.savings);
  showTabs();
}

refreshJournal().catch(() => {});
setInterval(() => refreshJournal().catch(() => {}), 10000);
