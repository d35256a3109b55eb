"use strict";
(() => {
  const { charts, colors } = JSON.parse(document.getElementById("data").textContent);
  const W = 560, H = 260, LEFT = 52, RIGHT = 10, TOP = 16, BOTTOM = 34;
  const NS = "http://www.w3.org/2000/svg";

  function make(name, attributes, parent, text) {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.appendChild(element);
    return element;
  }
  const extent = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  function ticks(low, high, count) {
    if (!(high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high)))) return [low];
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
    return found;
  }
  function decades(low, high, f) {
    const powers = Array.from({ length: 16 }, (_, i) => 10 ** (i - 1));
    const inside = [...powers.map((p) => -p).reverse(), 0, ...powers].filter((y) => f(y) >= low && f(y) <= high);
    return inside.length > 1 ? inside : ticks(low, high, 5).map((t) => 0.2 * Math.sinh(t));
  }
  function short(value) {
    const size = Math.abs(value);
    if (size >= 1e6) return +(value / 1e6).toPrecision(4) + "M";
    if (size >= 1e3) return +(value / 1e3).toPrecision(4) + "k";
    return String(+value.toPrecision(3));
  }
  const full = (value) => (Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4)));

  function draw(figure, chart) {
    const title = document.createElement("h4");
    title.textContent = chart.title;
    const legend = document.createElement("div");
    legend.className = "legend";
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": chart.title });
    figure.append(title, legend, svg, tip);
    const hidden = new Set();
    const color = (series) => colors[series.color % colors.length];
    let scale = null;

    function redraw() {
      svg.replaceChildren();
      const shown = chart.series.filter((_, i) => !hidden.has(i));
      const points = shown.flatMap((s) => s.points);
      scale = null;
      if (!points.length) return;
      const f = chart.log ? (y) => Math.asinh(y / 0.2) : (y) => y;
      const xs = points.map((p) => p[0]).concat(chart.marks.map((m) => m[0]));
      const ys = points.flatMap((p) => p.slice(1)).map(f);
      let [x0, x1] = extent(xs), [y0, y1] = extent(ys);
      if (x1 <= x0) [x0, x1] = [x0 - 1, x1 + 1];
      if (y1 - y0 <= 1e-9 * Math.abs(y0)) [y0, y1] = y0 ? [y0 - Math.abs(y0) / 2, y0 + Math.abs(y0) / 2] : [-0.1, 1];
      const pad = 0.05 * (y1 - y0);
      [y0, y1] = [y0 - pad, y1 + pad];
      const X = (x) => LEFT + ((x - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
      const Y = (y) => H - BOTTOM - ((f(y) - y0) / (y1 - y0)) * (H - TOP - BOTTOM);
      scale = { X, x0, x1, shown };
      for (const y of chart.log ? decades(y0, y1, f) : ticks(y0, y1, 5)) {
        make("line", { x1: LEFT, x2: W - RIGHT, y1: Y(y), y2: Y(y), stroke: "var(--line)" }, svg);
        make("text", { x: LEFT - 6, y: Y(y) + 4, "text-anchor": "end" }, svg, short(y));
      }
      for (const t of ticks(x0, x1, 6)) make("text", { x: X(t), y: H - BOTTOM + 15, "text-anchor": "middle" }, svg, short(t));
      make("text", { x: (W + LEFT) / 2, y: H - 4, "text-anchor": "middle" }, svg, chart.x);
      for (const [x, name] of chart.marks) {
        make("line", { x1: X(x), x2: X(x), y1: TOP, y2: H - BOTTOM, stroke: "var(--mark)", "stroke-dasharray": "2 3" }, svg);
        make("text", { x: X(x) + 3, y: TOP - 4, "text-anchor": X(x) > W - 90 ? "end" : "start" }, svg, name);
      }
      for (const s of shown) {
        const band = s.points.filter((p) => p.length > 2);
        if (band.length > 1) {
          const upper = band.map((p) => `${X(p[0])},${Y(p[3])}`), lower = band.map((p) => `${X(p[0])},${Y(p[2])}`).reverse();
          make("polygon", { points: [...upper, ...lower].join(" "), fill: color(s), opacity: 0.15 }, svg);
        }
        const line = s.points.map((p) => `${X(p[0])},${Y(p[1])}`).join(" ");
        make("polyline", { points: line, fill: "none", stroke: color(s), "stroke-width": 1.8, "stroke-dasharray": s.dashed ? "5 4" : "none" }, svg);
        if (s.points.length < 40) for (const p of s.points) make("circle", { cx: X(p[0]), cy: Y(p[1]), r: 2.4, fill: color(s) }, svg);
      }
      scale.cross = make("line", { y1: TOP, y2: H - BOTTOM, stroke: "var(--ink)", "stroke-width": 0.8, visibility: "hidden" }, svg);
    }

    chart.series.forEach((series, i) => {
      const button = document.createElement("button");
      const sample = document.createElement("i");
      sample.style.background = series.dashed
        ? `repeating-linear-gradient(90deg, ${color(series)} 0 4px, transparent 4px 7px)` : color(series);
      button.append(sample, series.name);
      button.addEventListener("click", () => {
        hidden.has(i) ? hidden.delete(i) : hidden.add(i);
        button.classList.toggle("off", hidden.has(i));
        button.setAttribute("aria-pressed", hidden.has(i));
        redraw();
      });
      legend.append(button);
    });
    svg.addEventListener("pointermove", (event) => {
      if (!scale) return;
      const box = svg.getBoundingClientRect();
      const at = scale.x0 + (((event.clientX - box.left) * W / box.width - LEFT) / (W - LEFT - RIGHT)) * (scale.x1 - scale.x0);
      const nearest = (s) => s.points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
      const found = scale.shown.map((s) => [s, nearest(s)]);
      const x = found.map(([, p]) => p[0]).reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a));
      scale.cross.setAttribute("x1", scale.X(x));
      scale.cross.setAttribute("x2", scale.X(x));
      scale.cross.setAttribute("visibility", "visible");
      tip.replaceChildren();
      const head = document.createElement("div");
      head.textContent = "at " + full(x);
      tip.append(head);
      for (const [s, p] of found) {
        const row = document.createElement("div");
        const interval = p.length > 2 ? ` [${full(p[2])}, ${full(p[3])}]` : "";
        row.textContent = `${s.name}: ${full(p[1])}${interval}${p[0] === x ? "" : ` (at ${full(p[0])})`}`;
        tip.append(row);
      }
      tip.hidden = false;
      const room = figure.getBoundingClientRect();
      const left = event.clientX - room.left + 14;
      tip.style.left = `${Math.max(0, Math.min(left, room.width - tip.offsetWidth))}px`;
      tip.style.top = `${event.clientY - room.top - tip.offsetHeight - 12}px`;
    });
    svg.addEventListener("pointerleave", () => {
      tip.hidden = true;
      if (scale) scale.cross.setAttribute("visibility", "hidden");
    });
    redraw();
  }
  for (const figure of document.querySelectorAll("[data-chart]")) draw(figure, charts[figure.dataset.chart]);
})();
