"use strict";
// Keeps a report in sight while its run goes on: the next one is loaded and drawn out of sight, takes over what the
// reader has done to this one (place, series hidden, parts unfolded, focus), and only then takes its place.
(function () {
  const interval = Number(document.documentElement.dataset.interval);
  const PAUSE = 5 * interval; // between two reports, each of which is drawn anew
  const PATIENCE = 60000; // for a report to be drawn
  const main = document.querySelector("main");
  const dot = document.getElementById("dot");
  const text = document.getElementById("text");
  const page = document.getElementById("page");
  let shown = null; // the frame in sight
  let version = null; // of the report in it
  let coming = null;
  let last = -Infinity;

  const all = (frame, selector) => [...frame.contentDocument.querySelectorAll(selector)];
  const say = (state, said) => {
    dot.dataset.state = state;
    if (text.textContent !== said) text.textContent = said;
  };

  function named(frame) {
    // Buttons and foldable parts by what they are called, since a new report may have more of them.
    const found = new Map();
    for (const element of all(frame, "button[data-key], summary, a[href], [tabindex]")) {
      const group = element.closest("[data-charts]")?.dataset.charts || element.closest("section")?.id || "";
      const base = [element.tagName, group, element.dataset.key || element.textContent.slice(0, 200)].join("|");
      let name = base;
      for (let i = 1; found.has(name); i++) name = `${base}|${i}`;
      found.set(name, element);
    }
    return found;
  }

  function takeOver(from, to) {
    const before = named(from);
    const after = named(to);
    const focused = from.contentDocument.activeElement;
    for (const [name, element] of after) {
      const old = before.get(name);
      if (!old) continue;
      const pressed = old.getAttribute("aria-pressed");
      if (pressed !== null && pressed !== element.getAttribute("aria-pressed")) element.click();
      if (element.tagName === "SUMMARY") element.parentElement.open = old.parentElement.open;
      if (old === focused) element.focus({ preventScroll: true });
    }
    const places = all(to, ".scroll");
    all(from, ".scroll").forEach((old, i) => places[i] && places[i].scrollTo(old.scrollLeft, old.scrollTop));
    to.contentWindow.scrollTo({ left: from.contentWindow.scrollX, top: from.contentWindow.scrollY, behavior: "instant" });
  }

  function drawn(frame) {
    return frame.contentDocument?.documentElement.hasAttribute("data-drawn");
  }

  function load(wanted) {
    const frame = document.createElement("iframe");
    frame.title = "Report of the run";
    frame.className = "coming";
    frame.src = "/page";
    coming = frame;
    const since = performance.now();
    const look = () => {
      // A run whose files can't be read just now is told of in plain text.
      if (frame.contentDocument?.contentType !== "text/html") return giveUp(frame);
      if (drawn(frame)) return swap(frame, wanted);
      if (performance.now() - since < PATIENCE) return setTimeout(look, 100);
      return giveUp(frame);
    };
    frame.addEventListener("load", look);
    frame.addEventListener("error", () => giveUp(frame));
    main.append(frame);
  }

  function giveUp(frame) {
    frame.remove();
    if (coming === frame) [coming, last] = [null, performance.now()];
  }

  function swap(frame, wanted) {
    if (coming !== frame) return;
    if (shown) takeOver(shown, frame);
    frame.classList.remove("coming");
    document.getElementById("empty")?.remove();
    const old = shown;
    [shown, coming, version, last] = [frame, null, wanted, performance.now()];
    // In sight for a moment behind the new one, so that there is never nothing. A page that nobody sees paints no frames
    // but keeps its clock.
    setTimeout(() => old?.remove(), 100);
    page.textContent = `report of ${new Date().toLocaleTimeString()}`;
  }

  async function ask() {
    let again = interval;
    try {
      const answer = await fetch("/state", { signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(String(answer.status));
      const state = await answer.json();
      const isNew = state.version !== null && state.version !== version;
      if (isNew && !document.hidden && !coming && (state.ended || performance.now() - last >= PAUSE)) load(state.version);
      say(state.state, state.ended ? `${state.text}. This page no longer refreshes.` : state.text);
      if (state.ended && !isNew && !coming) return;
    } catch {
      say("lost", "hbo watch has ended or can't be reached; this is the last report. It goes on by itself if hbo watch is started again at this port.");
      again = 3 * interval;
    }
    setTimeout(ask, again);
  }

  ask();
})();
