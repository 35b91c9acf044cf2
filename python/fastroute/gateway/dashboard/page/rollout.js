"use strict";
// The tabs of the canary, of drift and of learning.
const OUTCOME = {
  quality: (x) => x.toFixed(3), errors: percent, latency: (x) => `${x.toFixed(2)} s`, dollars,
};
const STATUS = {
  running: "Running:", frozen: "Frozen:", promoted: "Promoted:", reverted: "Rolled back:",
};
const when = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ") + " UTC";

function evidence(part, parent) {
  const cell = element("td", undefined, parent);
  const meter = element("meter", undefined, cell);
  meter.value = part;
  meter.title = percent(part);
  element("span", ` ${(100 * part).toFixed(0)}\u00a0%`, cell);
}

function happened(list, events, text) {
  list.replaceChildren();
  for (const event of [...events].reverse()) {
    const item = element("li", text(event), list);
    element("small", when(event.time), item);
  }
}

function showCanary(canary) {
  $("canary-section").hidden = !canary;
  if (!canary) return;
  $("canary-section").className = canary.status === "reverted" ? "is-bad" : "";
  $("canary-status").textContent = STATUS[canary.status];
  $("canary-share").textContent = `the new router has ${(100 * canary.share).toFixed(0)}\u00a0% of the conversations`;
  const counts = canary.conversations;
  const missing = canary.status === "running" && canary.missing.length ? ` Not proven good enough yet: ${canary.missing.join(", ")}.` : "";
  $("canary-said").textContent = `${number(counts.canary)} conversations of the canary and ${number(counts.control)} of the control have settled.${missing}`;
  $("canary-outcomes").replaceChildren();
  for (const [name, one] of Object.entries(canary.outcomes)) {
    const line = element("tr", undefined, $("canary-outcomes"));
    element("th", name, line).scope = "row";
    for (const mean of [one.control, one.canary]) element("td", mean === null ? "–" : OUTCOME[name](mean), line);
    for (const test of ["worse", "fit", "better"]) evidence(one[test], line);
  }
  happened($("canary-events"), canary.events, (event) => event.reason ? `${event.what}: ${event.reason}` : event.what);
}

function showDrift(drift) {
  $("drift-section").hidden = !drift;
  if (!drift) return;
  const day = Date.now() / 1000 - 86400;
  const recent = drift.alarms.filter((alarm) => alarm.time > day);
  $("drift-section").className = recent.length ? "is-bad" : "";
  $("drift-verdict").textContent = recent.length ? `Changed in the last day: ${[...new Set(recent.map((alarm) => alarm.stream))].join(", ")}.` : drift.streams.length ? "No change was detected in the last day." : "No conversation has settled yet.";
  $("drift-watched").hidden = !drift.streams.length;
  $("drift-happened").hidden = !drift.alarms.length;
  $("drift-streams").replaceChildren();
  for (const stream of drift.streams) {
    const line = element("tr", undefined, $("drift-streams"));
    element("th", stream.name, line).scope = "row";
    element("td", number(stream.conversations), line);
    evidence(stream.evidence, line);
  }
  happened($("drift-alarms"), drift.alarms, (alarm) => `${alarm.stream}: ${alarm.reason}`);
}

const LEARNT = {
  proposed: "A router was proposed.", not_proposed: "No router was proposed.", failed: "It failed.",
};

function showLearn(learn) {
  $("learn-section").hidden = !learn;
  if (!learn) return;
  $("learn-section").className = learn.outcome === "failed" ? "is-bad" : "";
  $("learn-verdict").textContent = learn.outcome ? LEARNT[learn.outcome] : "Not yet.";
  $("learn-reason").textContent = learn.reason ?? "";
  $("learn-when").textContent = learn.running ? "Running now." : learn.due ? `Next run: ${when(learn.due)}.` : "The first run comes when the journal is as old as every_hours.";
  $("learn-proposal").textContent = learn.proposed ? `Last proposal, ${when(learn.proposed)}: ${learn.folder}` : "";
}

async function refreshRollout() {
  if (document.hidden) return;
  const found = await ask("ui/rollout");
  showCanary(found.canary);
  showDrift(found.drift);
  showLearn(found.learn);
  showTabs();
}

refreshRollout().catch(() => {});
setInterval(() => refreshRollout().catch(() => {}), 5000);
