"use strict";
// Tabs: a section with data-tab is in the tab of that name, the others are in the first. A tab is
// shown once one of its sections is not hidden. The address has the name of the tab.
const FIRST = "Routing";
let current = decodeURIComponent(location.hash.slice(1)) || FIRST;

function showTabs() {
  const sections = [...document.querySelectorAll("main > section")];
  const used = sections.filter((section) => section.dataset.tab && !section.hidden);
  const names = [FIRST, ...new Set(used.map((section) => section.dataset.tab))];
  const shown = names.includes(current) ? current : FIRST;
  for (const section of sections) section.classList.toggle("off-tab", section.id !== "unlock" && (section.dataset.tab || FIRST) !== shown);
  const bar = $("tabs");
  bar.hidden = names.length === 1;
  if (bar.dataset.names === names.join() && bar.dataset.shown === shown) return;
  [bar.dataset.names, bar.dataset.shown] = [names.join(), shown];
  const held = bar.contains(document.activeElement);
  bar.replaceChildren();
  for (const name of names) {
    const tab = element("button", name, bar);
    tab.type = "button";
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", name === shown);
    tab.tabIndex = name === shown ? 0 : -1;
    tab.addEventListener("click", () => choose(name));
    if (name === shown && held) tab.focus();
  }
}

function choose(name) {
  current = name;
  history.replaceState(null, "", name === FIRST ? location.pathname : `#${encodeURIComponent(name)}`);
  showTabs();
}

$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...$("tabs").children];
  const at = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
  choose(tabs[(at + step + tabs.length) % tabs.length].textContent);
  event.preventDefault();
});
showTabs();
