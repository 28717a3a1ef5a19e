// One chart: the curves of a metric, drawn once it comes into view, and drawn again when the view changes.

const MAX_ENVELOPES = 24; // curves on a chart with bands between their extremes; more would hide one another
const BUCKETS = 320; // of a curve; fewer where there are many
const POINTS = 12_000; // of a chart, about
const ZOOM_MS = 150; // a range is asked for when it rests

class CurveChart {
  constructor(panel, metric) {
    this.panel = panel;
    this.metric = metric;
    this.curves = [];
    this.range = null; // what the answer covers; null: everything
    this.stale = true;
    this.build();
  }

  build() {
    const button = (label, title, act) => element("button", { type: "button", title, "aria-label": `${title}: ${this.metric.title}`, onclick: act }, label);
    this.note = element("div", { class: "note" });
    this.problem = element("div", { class: "problem", role: "alert", hidden: true });
    this.plot = element("div", { class: "plot", role: "img" });
    this.tip = element("div", { class: "tip", hidden: true });
    this.box = element("section", { class: "chart", "aria-label": this.metric.title },
      element("header", {}, element("h4", {}, this.metric.title, element("span", { class: "unit" }, this.unit)),
        element("span", { class: "files" },
          button("PNG", "Save as PNG", () => this.savePicture("png")),
          button("SVG", "Save as SVG", () => this.savePicture("svg")),
          button("CSV", "Save what is drawn as CSV", () => this.saveCsv()))),
      element("div", { class: "area" }, this.plot, this.tip), this.problem, this.note);
  }

  // Above the chart, as a long one would not fit beside it; nothing where the title says it.
  get unit() { return this.metric.unit === this.metric.title ? "" : this.metric.unit; }

  get runIds() { return this.metric.runs; }

  // Ask for the curves in the range of the view, unless they are there.
  async load() {
    const { address } = this.panel.data;
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const range = this.panel.range;
    this.box.classList.toggle("loading", !this.curves.length);
    try {
      const buckets = Math.max(40, Math.min(BUCKETS, Math.floor(POINTS / this.runIds.length)));
      const ends = range ? { first: range[0], last: range[1] } : {};
      const body = { runs: this.runIds, metric: this.metric.name, axis: this.panel.view.axis, buckets, ...ends };
      const table = await fetchTable(address, body, asking.signal);
      this.curves = readCurves(table, this.runIds);
      this.range = range;
      this.stale = false;
      this.problem.hidden = true;
      this.draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.problem.textContent = error.message;
      this.problem.hidden = false;
    } finally {
      if (this.asking === asking) this.box.classList.remove("loading");
    }
  }

  // Load what is stale if the chart is in view; else wait until it is.
  refresh() {
    this.stale = true;
    if (this.inView) this.load();
  }

  get shownCurves() { return this.curves.filter(({ id }) => !this.panel.hidden.has(id)); }

  draw() {
    this.chart?.destroy();
    this.chart = null;
    const curves = this.shownCurves;
    this.note.textContent = this.describe(curves);
    this.plot.setAttribute("aria-label", `${this.metric.title} of ${plural(curves.length, "run")}; save as CSV for the numbers.`);
    if (!curves.length) {
      this.plot.replaceChildren(element("p", { class: "empty" }, this.curves.length
        ? "Every run is hidden. Click a name above to show its curve."
        : "No point of these runs is in this range."));
      return;
    }
    this.plot.replaceChildren();
    const { lists, series, bands } = this.buildSeries(curves);
    this.chart = new uPlot(this.buildOptions(series, bands), alignCurves(lists), this.plot);
  }

  // What is drawn of each curve: its band, its line, and the smoothed line over it.
  buildSeries(curves) {
    const { log, smoothing } = this.panel.view;
    const place = (values) => (log ? keepPositive(values) : values);
    const lists = [];
    const series = [{}];
    const bands = [];
    const width = findWidth(curves, this.panel.range);
    const add = (x, values, options) => { lists.push({ x, values: place(values) }); series.push({ spanGaps: true, points: { show: false }, ...options }); };
    if (curves.length <= MAX_ENVELOPES) {
      for (const curve of curves.filter(hasSpread)) {
        const { color } = this.panel.runs.get(curve.id);
        add(curve.x, curve.max, { stroke: "transparent", width: 0 });
        add(curve.x, curve.min, { stroke: "transparent", width: 0 });
        bands.push({ series: [series.length - 2, series.length - 1], fill: `${color}2e` });
      }
    }
    for (const curve of curves) {
      const { color, dash } = this.panel.runs.get(curve.id);
      const few = curve.x.length <= 40 && !smoothing;
      add(curve.x, curve.value, { stroke: smoothing ? `${color}55` : color, width: smoothing ? 1 : 1.6, dash, points: { show: few, size: 5, fill: color } });
      if (smoothing) add(curve.x, smoothCurve(curve, smoothing, width), { stroke: color, width: 2, dash });
    }
    return { lists, series, bands };
  }

  buildOptions(series, bands) {
    const style = getComputedStyle(this.box);
    const ink = style.color;
    const font = `12px ${style.fontFamily}`;
    const grid = { stroke: "rgba(127,140,146,0.2)", width: 1 };
    const { axis, log } = this.panel.view;
    const format = axis === "time" ? (_, ticks) => ticks.map((x) => formatPlace(axis, x).slice(5, 16)) : (_, ticks) => ticks.map(formatValue);
    const range = this.panel.range;
    return {
      width: Math.max(240, this.plot.clientWidth),
      height: this.plot.clientWidth < 500 ? 220 : 280,
      series,
      bands,
      legend: { show: false },
      cursor: { drag: { x: true, y: false }, sync: { key: "tunebench-curves", setSeries: false }, points: { show: false } },
      scales: { x: { time: false, ...(range ? { range: () => range } : {}) }, y: log ? { distr: 3, range: (_, low, high) => [low / 1.1, high * 1.1] } : {} },
      axes: [
        { stroke: ink, grid, ticks: grid, size: 34, values: format, label: this.panel.axisTitle, labelSize: 20, font, labelFont: font },
        { stroke: ink, grid, ticks: grid, size: 62, values: (_, ticks) => ticks.map((y) => (y === null ? "" : formatValue(y))), font },
      ],
      hooks: {
        draw: [(chart) => this.drawMarks(chart)],
        setCursor: [(chart) => this.showTip(chart)],
        setSelect: [(chart) => this.zoom(chart)],
      },
    };
  }

  // Where values are not finite, a cross at the foot of the chart; and the level of the base model.
  drawMarks(chart) {
    const { ctx, bbox } = chart;
    const ratio = window.devicePixelRatio || 1;
    ctx.save();
    ctx.lineWidth = 1.5 * ratio;
    const { level } = this.metric;
    if (level !== null && level >= chart.scales.y.min && level <= chart.scales.y.max) {
      const y = chart.valToPos(level, "y", true);
      ctx.strokeStyle = "#7f8c92";
      ctx.setLineDash([6 * ratio, 4 * ratio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.fillStyle = "#7f8c92";
      ctx.font = `${11 * ratio}px sans-serif`;
      ctx.textAlign = "right";
      ctx.textBaseline = "bottom";
      ctx.fillText(`Base model ${formatValue(level)}`, bbox.left + bbox.width - 4 * ratio, y - 4 * ratio);
    }
    const size = 4 * ratio;
    const foot = bbox.top + bbox.height - 2 * size;
    for (const curve of this.shownCurves) {
      ctx.strokeStyle = this.panel.runs.get(curve.id).color;
      curve.nonfinite.forEach((count, at) => {
        const x = chart.valToPos(curve.x[at], "x", true);
        if (!count || x < bbox.left || x > bbox.left + bbox.width) return;
        ctx.beginPath();
        ctx.moveTo(x - size, foot - size); ctx.lineTo(x + size, foot + size);
        ctx.moveTo(x - size, foot + size); ctx.lineTo(x + size, foot - size);
        ctx.stroke();
      });
    }
    ctx.restore();
  }

  // The values of all curves at the pointer, the highest first.
  showTip(chart) {
    const { left, top } = chart.cursor;
    if (left === null || left < 0 || !this.plot.matches(":hover")) { this.tip.hidden = true; return; }
    const x = chart.posToVal(left, "x");
    const values = this.shownCurves.map((curve) => ({ curve, at: findValueAt(curve, x) })).filter(({ at }) => at);
    values.sort((a, b) => (b.at.value ?? Infinity) - (a.at.value ?? Infinity));
    const lines = values.slice(0, 12).map(({ curve, at: { value, at } }) => {
      const run = this.panel.runs.get(curve.id);
      const spread = curve.count[at] > 1 ? ` (${formatValue(curve.min[at])} to ${formatValue(curve.max[at])}, n ${curve.count[at]})` : "";
      const wrong = curve.nonfinite[at] ? `, ${curve.nonfinite[at]} not finite` : "";
      return element("div", {}, element("i", { style: `background:${run.color}` }), element("b", {}, formatValue(value)), `${spread}${wrong} `, element("span", {}, run.label));
    });
    const more = values.length - lines.length;
    this.tip.replaceChildren(element("div", { class: "at" }, formatPlace(this.panel.view.axis, x)), ...lines, ...(more > 0 ? [element("div", {}, `and ${plural(more, "run")} more`)] : []));
    this.tip.hidden = !lines.length;
    const right = left > chart.over.clientWidth / 2;
    this.tip.style.left = right ? "" : `${left + 90}px`;
    this.tip.style.right = right ? `${chart.over.clientWidth - left + 24}px` : "";
    this.tip.style.top = `${Math.max(0, Math.min(top, 120))}px`;
  }

  zoom(chart) {
    const { left, width } = chart.select;
    if (width < 6) return;
    const ends = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.panel.setRange(ends);
  }

  // What the picture alone doesn't say, counted.
  describe(curves) {
    const sum = (count) => curves.reduce((total, curve) => total + count(curve), 0);
    const points = sum((curve) => curve.count.reduce((a, b) => a + b, 0));
    const wrong = sum((curve) => curve.nonfinite.reduce((a, b) => a + b, 0));
    const low = this.panel.view.log ? sum(countNotPositive) : 0;
    const silent = this.panel.data.runs.length - this.runIds.length;
    const absent = this.runIds.length - this.curves.length;
    const without = { tokens: "did not log the tokens seen", epoch: "did not log the epoch" }[this.panel.view.axis];
    return [
      `${plural(points, "point")} of ${plural(curves.length, "run")}.`,
      curves.length > MAX_ENVELOPES && curves.some(hasSpread) ? `Bands between minimum and maximum are drawn for up to ${MAX_ENVELOPES} runs.` : "",
      wrong ? `${plural(wrong, "value")} not finite, marked × where they are.` : "",
      low ? `${plural(low, "value")} not above 0 can't be drawn on a logarithmic axis.` : "",
      silent ? `Not measured by ${plural(silent, "run")}.` : "",
      absent ? `${plural(absent, "run")} ${this.panel.range ? `without points in this range${without ? `, or ${without}` : ""}` : without ?? "without points"}.` : "",
    ].filter(Boolean).join(" ");
  }

  saveCsv() {
    const labels = new Map([...this.panel.runs].map(([id, run]) => [id, run.label]));
    saveFile(buildFileName(this.metric.name, "csv"), buildCsv(this.shownCurves, labels, this.panel.view.axis), "text/csv");
  }

  async savePicture(ending) {
    if (!this.chart) return;
    const { x, y } = this.chart.scales;
    const { axis, log } = this.panel.view;
    const svg = buildSvg({
      title: this.metric.title, unit: this.metric.unit, axisTitle: this.panel.axisTitle, curves: this.shownCurves,
      runs: this.panel.runs, ranges: { x: [x.min, x.max], y: [y.min, y.max] }, log, axis,
    });
    const content = ending === "svg" ? svg : await buildPng(svg);
    saveFile(buildFileName(this.metric.name, ending), content, "image/svg+xml");
  }

  resize() {
    if (this.chart && this.plot.clientWidth) this.chart.setSize({ width: Math.max(240, this.plot.clientWidth), height: this.chart.height });
  }

  remove() {
    this.asking?.abort();
    this.chart?.destroy();
    this.box.remove();
  }
}
