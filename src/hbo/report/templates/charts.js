"use strict";
// Draws a figure of `figures.py` as SVG. All that comes from a run is set as text, so no name can be markup; colours
// are those of the style sheet, so a change of the scheme draws nothing anew.
const charts = (function () {
  const MANY = 30; // points beyond which error bars become a band, and markers of small charts are left out
  const MOST_TOLD = 16;
  const SHAPES = {
    square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
    "triangle-up": [[0, -1.15], [1.1, 0.85], [-1.1, 0.85]],
    "triangle-down": [[0, 1.15], [1.1, -0.85], [-1.1, -0.85]],
    cross: [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
    x: [[-0.6, -1.1], [0, -0.5], [0.6, -1.1], [1.1, -0.6], [0.5, 0], [1.1, 0.6], [0.6, 1.1], [0, 0.5], [-0.6, 1.1], [-1.1, 0.6], [-0.5, 0], [-1.1, -0.6]],
    star: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((i) => {
      const [far, angle] = [i % 2 ? 0.55 : 1.35, (Math.PI * i) / 5];
      return [far * Math.sin(angle), -far * Math.cos(angle)];
    }),
  };
  const DASHES = { dash: "6 3", dot: "2 2.5", dashdot: "6 2.5 1.5 2.5" };

  function put(parent, tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  const tint = (trace) => trace.tint || (trace.colour === undefined ? `var(--${trace.key === "reference" ? "muted" : "ink"})` : `var(--c${trace.colour})`);
  const round = (value) => Math.round(value * 10) / 10;

  // Round numbers that cut the range into about `most` parts; of steps only whole ones.
  function ticks(low, high, most, whole) {
    const rough = Math.max((high - low) / most, 1e-12);
    const power = 10 ** Math.floor(Math.log10(rough));
    const found = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.75);
    const step = whole ? Math.max(1, Math.round(found)) : found;
    const marks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) marks.push(i * step || 0); // no −0
    return { marks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  function extent(figure, shown) {
    if (figure.range) return figure.range;
    const ends = shown.flatMap((trace) => trace.y.flatMap((y, i) => (y === null ? [] : [y - (trace.se?.[i] || 0), y + (trace.se?.[i] || 0)])));
    if (!ends.length) return [0, 1];
    const [low, high] = [ends.reduce((a, b) => Math.min(a, b)), ends.reduce((a, b) => Math.max(a, b))];
    const margin = 0.05 * (high - (figure.zero ? 0 : low)) || 0.05 * Math.abs(high) || 0.05;
    return [figure.zero ? 0 : low - margin, high + margin];
  }

  // The figure in a box of so many pixels: where a step and a value lie.
  function frame(figure, shown, width, height, small) {
    const [low, high] = extent(figure, shown);
    const scale = figure.percent ? 100 : 1;
    const rows = ticks(low * scale, high * scale, small ? 4 : 6);
    const unit = figure.percent ? "%" : "";
    const marks = rows.marks.map((mark) => ({ at: mark / scale, said: number(mark, rows.digits) + unit }));
    const letter = small ? 6.2 : 6.8; // of a digit, in pixels
    const left = 30 + letter * Math.max(2, ...marks.map((mark) => mark.said.length));
    const box = { left, right: width - 14, top: 10, bottom: height - 40 };
    const last = Math.max(1, figure.until || 0, ...shown.flatMap((trace) => [trace.x[0] ?? 0, trace.x[trace.x.length - 1] ?? 0, trace.until || 0]));
    const x = (step) => box.left + 6 + ((box.right - box.left - 12) * step) / last;
    const y = (value) => box.bottom - ((box.bottom - box.top) * (value - low)) / (high - low || 1);
    return { box, x, y, marks, last, low, high, steps: ticks(0, last, small ? 4 : Math.max(3, Math.min(10, width / 90)), true).marks };
  }

  const number = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");

  // A value as a tooltip says it: four digits that count, or percent.
  function said(value, figure) {
    if (figure.percent) return `${number(100 * value, 1)}%`;
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e6 || size < 1e-4)) return value.toExponential(2).replace("-", "−");
    return number(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 0.1 ? 3 : 5);
  }

  function axes(svg, figure, place, small) {
    const { box, x, y } = place;
    const lines = put(svg, "g", { class: "lines" });
    const labels = put(svg, "g", { class: "labels", "font-size": small ? 11 : 12 });
    for (const { at, said } of place.marks) {
      put(lines, "path", { d: `M${box.left} ${round(y(at))}H${box.right}` });
      put(labels, "text", { x: box.left - 6, y: round(y(at)) + 4, "text-anchor": "end" }, said);
    }
    for (const step of place.steps) {
      put(lines, "path", { d: `M${round(x(step))} ${box.top}V${box.bottom}` });
      put(labels, "text", { x: round(x(step)), y: box.bottom + 16, "text-anchor": "middle" }, step.toLocaleString("en"));
    }
    put(labels, "text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, figure.x);
    const middle = (box.top + box.bottom) / 2;
    const room = (box.bottom - box.top + 30) / (small ? 5.6 : 6.2);
    const title = figure.y.length > room ? `${figure.y.slice(0, room - 1)}…` : figure.y;
    put(labels, "text", { transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" }, title);
  }

  const marker = (name, x, y, size) => {
    if (!SHAPES[name]) return `M${round(x - size)} ${round(y)}a${size} ${size} 0 1 0 ${2 * size} 0a${size} ${size} 0 1 0 ${-2 * size} 0z`;
    return `M${SHAPES[name].map(([dx, dy]) => `${round(x + dx * size)} ${round(y + dy * size)}`).join("L")}z`;
  };

  function line(trace, place) {
    let [path, isDown] = ["", false];
    trace.x.forEach((step, i) => {
      const value = trace.y[i];
      if (value === null) return (isDown = false);
      const [x, y] = [round(place.x(step)), round(place.y(value))];
      path += !isDown ? `M${x} ${y}` : trace.hold ? `H${x}V${y}` : `L${x} ${y}`;
      isDown = true;
    });
    // The last probabilities hold to the end, where no update set new ones.
    if (trace.hold && isDown && trace.until > trace.x[trace.x.length - 1]) path += `H${round(place.x(trace.until))}`;
    return path;
  }

  // Many error bars become one another's noise: beyond `MANY` points the spread is a band.
  function spread(trace, place) {
    const points = trace.x.map((step, i) => [place.x(step), trace.y[i], trace.se[i] || 0]).filter((point) => point[1] !== null);
    const at = ([x, value, error], way) => `${round(x)} ${round(place.y(value + way * error))}`;
    if (trace.x.length > MANY) return { fill: `M${[...points.map((p) => at(p, 1)), ...points.reverse().map((p) => at(p, -1))].join("L")}z` };
    const bar = (point) => [1, -1].map((way) => `M${round(point[0] - 3)} ${round(place.y(point[1] + way * point[2]))}h6`).join("") + `M${at(point, 1)}L${at(point, -1)}`;
    return { bars: points.filter((point) => point[2]).map(bar).join("") };
  }

  function series(svg, trace, place, small) {
    const group = put(svg, "g", { class: "series", "data-trace": trace.key, style: `color: ${tint(trace)}` });
    const many = trace.x.length > MANY;
    if (trace.target) {
      const open = trace.x.map((step, i) => (trace.y[i] === null ? "" : marker(trace.symbol, place.x(step), place.y(trace.y[i]), small ? 3.2 : 4)));
      put(group, "path", { class: "open", d: open.join("") });
      return;
    }
    if (trace.se) {
      const { fill, bars } = spread(trace, place);
      put(group, "path", fill ? { class: "band", d: fill } : { class: "bars", d: bars });
    }
    const width = { overall: 6, reference: 1 }[trace.key] || 1.8;
    const dash = trace.key === "reference" ? DASHES.dot : DASHES[trace.dash];
    put(group, "path", { class: "line", d: line(trace, place), "stroke-width": width, "stroke-dasharray": dash, opacity: trace.key === "overall" ? 0.4 : undefined });
    if (trace.plain || trace.key === "reference" || (many && small)) return;
    const size = many ? 2 : small ? 3 : 3.6;
    put(group, "path", { class: "mark", d: trace.x.map((step, i) => (trace.y[i] === null ? "" : marker(trace.symbol, place.x(step), place.y(trace.y[i]), size))).join("") });
  }

  // What every series in sight says at a step: the probability in force, or what was measured there.
  function told(shown, step) {
    return shown.flatMap((trace) => {
      if (trace.key === "reference") return [];
      let i = trace.x.indexOf(step);
      if (trace.hold) for (i = trace.x.length - 1; i > 0 && trace.x[i] > step; ) i--;
      return i < 0 || trace.y[i] === null || (trace.hold && trace.x[i] > step) ? [] : [{ trace, value: trace.y[i], error: trace.se?.[i] }];
    });
  }

  function tooltip(figure, shown, step) {
    const box = document.createElement("div");
    const head = document.createElement("strong");
    head.textContent = `step ${step.toLocaleString("en")}`;
    box.append(head);
    const rows = told(shown, step).sort((a, b) => b.value - a.value);
    for (const { trace, value, error } of rows.slice(0, MOST_TOLD)) {
      const row = document.createElement("div");
      const mark = put(row, "svg", { viewBox: "0 0 12 12", width: 12, height: 12, style: `color: ${tint(trace)}`, class: trace.target ? "hollow" : "" });
      put(mark, "path", { d: marker(trace.symbol, 6, 6, 4) });
      const name = document.createElement("bdi");
      name.textContent = trace.target ? `${trace.name}, share of the rewards` : trace.name;
      const figureSaid = document.createElement("b");
      figureSaid.textContent = said(value, figure) + (error ? ` ± ${said(error, figure)}` : "");
      row.append(name, figureSaid);
      box.append(row);
    }
    if (rows.length > MOST_TOLD) box.append(`and ${rows.length - MOST_TOLD} more`);
    return rows.length ? box : null;
  }

  // Puts the figure's drawing into the element in place of the one before, and tells what lies under the pointer.
  function draw(element, figure, isOff) {
    const small = element.classList.contains("small");
    const [width, height] = [Math.max(element.clientWidth, 160), Math.max(element.clientHeight, 120)];
    const visible = figure.traces.filter((trace) => !isOff(trace));
    const shown = visible.length ? visible : [];
    const place = frame(figure, shown.length ? shown : figure.traces, width, height, small);
    const svg = put(document.createElement("div"), "svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    axes(svg, figure, place, small);
    for (const trace of shown) series(svg, trace, place, small);
    const guide = put(svg, "path", { class: "guide" });
    const told = document.createElement("div");
    told.className = "told";
    told.hidden = true;
    element.replaceChildren(svg, told);
    const steps = [...new Set(shown.flatMap((trace) => (trace.key === "reference" ? [] : trace.x)))].sort((a, b) => a - b);
    const leave = () => {
      told.hidden = true;
      guide.removeAttribute("d");
    };
    element.onpointermove = element.onpointerdown = (event) => {
      const box = element.getBoundingClientRect();
      const at = ((event.clientX - box.left) * width) / box.width;
      const step = steps.reduce((best, each) => (best === null || Math.abs(place.x(each) - at) < Math.abs(place.x(best) - at) ? each : best), null);
      const said = step === null ? null : tooltip(figure, shown, step);
      if (!said) return leave();
      guide.setAttribute("d", `M${round(place.x(step))} ${place.box.top}V${place.box.bottom}`);
      told.replaceChildren(...said.childNodes);
      told.hidden = false;
      const x = place.x(step);
      const fits = x + 14 + told.offsetWidth <= width;
      told.style.left = `${Math.max(0, fits ? x + 14 : Math.min(x - 14 - told.offsetWidth, width - told.offsetWidth))}px`;
      told.style.top = `${place.box.top}px`;
    };
    element.onpointerleave = leave;
  }

  return { draw };
})();
