"use strict";
// Draws the page's figures, again when their width changes, and lets legends hide and show series.
(function () {
  const { steps, figures } = JSON.parse(document.getElementById("figures").textContent);
  for (const trace of Object.values(figures).flatMap((figure) => figure.traces)) trace.x = steps[trace.x];
  const drawings = [...document.querySelectorAll("[data-figure]")];
  const legends = [...document.querySelectorAll("[data-charts]")];
  const hidden = new Map();
  const widths = new Map();

  function draw(element) {
    const off = hidden.get(element.dataset.figure) || new Set();
    widths.set(element, element.clientWidth);
    charts.draw(element, figures[element.dataset.figure], (trace) => off.has(trace.key) || (trace.target && off.has("target")));
  }

  // A few charts at a time, with a pause in between: many of them must not keep the page from scrolling.
  async function drawEach(some) {
    for (const [i, drawing] of some.entries()) {
      draw(drawing);
      if (i % 8 === 7) await new Promise((resolve) => setTimeout(resolve));
    }
  }

  const chartsOf = (legend) => drawings.filter((drawing) => drawing.dataset.figure.startsWith(legend.dataset.charts));

  function readLegend(legend) {
    const off = [...legend.querySelectorAll('button[aria-pressed="false"]')].map((button) => button.dataset.key);
    for (const drawing of chartsOf(legend)) hidden.set(drawing.dataset.figure, new Set(off));
  }

  function toggle(legend, button) {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    readLegend(legend);
    drawEach(chartsOf(legend));
  }

  for (const legend of legends) {
    readLegend(legend);
    for (const button of legend.querySelectorAll("button")) button.addEventListener("click", () => toggle(legend, button));
  }
  drawEach(drawings).then(() => {
    const resized = new ResizeObserver((entries) => {
      drawEach(entries.map((entry) => entry.target).filter((target) => target.clientWidth && target.clientWidth !== widths.get(target)));
    });
    for (const drawing of drawings) resized.observe(drawing);
    document.documentElement.setAttribute("data-drawn", String(drawings.length));
  });
})();
