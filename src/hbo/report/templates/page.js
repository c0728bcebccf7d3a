"use strict";
// Draws the figures of the page in the colours of the page's scheme, and redraws when the scheme changes.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const charts = [...document.querySelectorAll("[data-figure]")];
  const legends = [...document.querySelectorAll("[data-charts]")];
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Map();
  const MANY = 30;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Groups run from the scheme's easy colour over the middle one to its hard one.
  function groupColour(key) {
    const [index, count] = key.slice(1).split("/").map(Number);
    const stops = ["--easy", "--middle", "--hard"].map((name) => css(name).match(/[0-9a-f]{2}/gi).map((h) => parseInt(h, 16)));
    const at = count > 1 ? (2 * index) / (count - 1) : 2;
    const from = Math.min(1, Math.floor(at));
    const mix = stops[from].map((value, i) => Math.round(value + (stops[from + 1][i] - value) * (at - from)));
    return `rgb(${mix.join(",")})`;
  }

  function colour(trace) {
    if (trace.key.startsWith("g")) return groupColour(trace.key);
    if (trace.key.startsWith("d")) return css(`--c${trace.colour}`);
    return css(trace.key === "reference" ? "--muted" : "--ink");
  }

  const isOff = (trace, id) => {
    const off = hidden.get(id) || new Set();
    return off.has(trace.key) || (trace.target && off.has("target"));
  };

  // Many error bars become one another's noise: beyond `MANY` points the spread is a band.
  function band(trace, id) {
    const points = trace.x.map((x, i) => [x, trace.y[i], trace.se[i] || 0]).filter((point) => point[1] !== null);
    const back = [...points].reverse();
    return {
      type: "scatter",
      mode: "lines",
      x: [...points, ...back].map((point) => point[0]),
      y: [...points.map((point) => point[1] + point[2]), ...back.map((point) => point[1] - point[2])],
      fill: "toself",
      fillcolor: translucent(colour(trace)),
      line: { width: 0 },
      hoverinfo: "skip",
      visible: !isOff(trace, id),
    };
  }

  function translucent(tint) {
    const parts = tint.startsWith("#") ? tint.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16)) : tint.match(/\d+/g);
    return `rgba(${parts.join(",")},0.18)`;
  }

  function plotlyTrace(trace, id, small) {
    const tint = colour(trace);
    const many = trace.x.length > MANY;
    const mode = trace.target ? "markers" : trace.plain || trace.key === "reference" || (many && small) ? "lines" : "lines+markers";
    const spread = trace.se && !many ? { type: "data", array: trace.se, color: tint, thickness: 1.2, width: 3 } : undefined;
    const widths = { overall: 6, reference: 1 };
    // The last probabilities hold to the end, where no update set new ones: a line without a marker.
    const held = trace.until > trace.x[trace.x.length - 1];
    const size = trace.target ? 8 : many ? 4 : 7;
    return {
      type: "scatter",
      mode,
      name: trace.target ? `${trace.name} (reward share)` : trace.name,
      x: held ? [...trace.x, trace.until] : trace.x,
      y: held ? [...trace.y, trace.y[trace.y.length - 1]] : trace.y,
      error_y: spread,
      customdata: trace.se,
      visible: !isOff(trace, id),
      opacity: trace.key === "overall" ? 0.4 : 1,
      cliponaxis: false,
      line: {
        color: tint,
        width: widths[trace.key] || 1.8,
        dash: trace.key === "reference" ? "dot" : trace.dash || "solid",
        shape: trace.hold ? "hv" : "linear",
      },
      marker: {
        color: tint,
        size: held ? [...trace.x.map(() => size), 0] : size,
        symbol: (trace.symbol || "circle") + (trace.target ? "-open" : ""),
        line: { width: trace.target ? 1.4 : 0, color: tint },
      },
      hoverinfo: trace.key === "reference" ? "skip" : undefined,
      hovertemplate: trace.key === "reference" ? undefined
        : `%{fullData.name}<br>step %{x}: <b>%{y:.4~g}</b>${trace.se ? " ± %{customdata:.2~g}" : ""}<extra></extra>`,
    };
  }

  function layout(figure, element) {
    const small = element.classList.contains("small");
    const grid = css("--grid");
    const axis = { gridcolor: grid, linecolor: grid, zeroline: false, automargin: true, fixedrange: true, color: css("--ink") };
    const y = { ...axis, title: { text: figure.y, font: { size: 12 }, standoff: 8 }, nticks: small ? 5 : 7 };
    if (figure.range) y.range = figure.range;
    else if (figure.zero) y.rangemode = "tozero";
    const x = { ...axis, title: { text: figure.x, font: { size: 12 }, standoff: 8 }, nticks: small ? 5 : 9, rangemode: "tozero", tickformat: "d" };
    if (figure.until) x.range = [-0.03 * figure.until, 1.04 * figure.until];
    const last = figure.until || Math.max(0, ...figure.traces.flatMap((trace) => [...trace.x, trace.until || 0]));
    if (last < x.nticks) x.dtick = 1; // no two ticks for one step
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: small ? 11 : 12, color: css("--ink") },
      margin: { l: 8, r: 12, t: 8, b: 8 },
      height: element.clientHeight,
      showlegend: false,
      hovermode: "closest",
      dragmode: false,
      hoverlabel: { bgcolor: css("--panel"), bordercolor: grid, align: "left", font: { color: css("--ink"), size: 13 } },
      xaxis: x,
      yaxis: y,
    };
  }

  function draw(element) {
    const id = element.dataset.figure;
    const figure = figures[id];
    const small = element.classList.contains("small");
    const bands = figure.traces.filter((trace) => trace.se && trace.x.length > MANY).map((trace) => band(trace, id));
    const traces = [...bands, ...figure.traces.map((trace) => plotlyTrace(trace, id, small))];
    return Plotly.react(element, traces, layout(figure, element), { displayModeBar: false, responsive: true, scrollZoom: false });
  }

  // One chart after the other, with a pause in between: many of them must not keep the page from scrolling.
  async function drawEach(some) {
    for (const chart of some) {
      await draw(chart);
      await new Promise((resolve) => setTimeout(resolve));
    }
  }

  function drawAll() {
    for (const swatch of document.querySelectorAll('[data-swatch^="g"]')) swatch.style.color = groupColour(swatch.dataset.swatch);
    return drawEach(charts);
  }

  const chartsOf = (legend) => charts.filter((chart) => chart.dataset.figure.startsWith(legend.dataset.charts));

  function readLegend(legend) {
    const off = [...legend.querySelectorAll('button[aria-pressed="false"]')].map((button) => button.dataset.key);
    for (const chart of chartsOf(legend)) hidden.set(chart.dataset.figure, new Set(off));
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
  scheme.addEventListener("change", drawAll);
  drawAll().then(() => document.documentElement.setAttribute("data-drawn", String(charts.length)));
})();
