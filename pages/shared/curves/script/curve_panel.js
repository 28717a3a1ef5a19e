// The panel of charts: what all of them share (axis, scale, smoothing, range, hidden runs), in sections by metric.

const MOUNTED = new WeakMap(); // the panel of each mounted component
const VIEW_KEY = "tunebench-curves-view"; // in localStorage: axis, scale and smoothing of the last visit
const REFRESH_MS = 4_000; // between requests of a chart in view while a run is alive
const SECTIONS = { train: "Training", eval: "Validation", probe: "Probes", system: "Machine" };
const MAX_NAMES = 40; // of runs above the charts, until all are asked for

class CurvePanel {
  constructor(root) {
    this.root = root;
    this.charts = new Map();
    this.hidden = new Set();
    this.range = null;
    this.view = { axis: "step", log: false, smoothing: 0, ...this.readView() };
    this.watching = new IntersectionObserver((entries) => entries.forEach((entry) => this.look(entry)), { rootMargin: "200px" });
    this.sizing = new ResizeObserver(() => this.charts.forEach((chart) => chart.resize()));
    this.sizing.observe(root);
    this.timer = setInterval(() => this.ask(), REFRESH_MS);
    this.build();
  }

  readView() {
    try {
      const { axis, log, smoothing } = JSON.parse(localStorage.getItem(VIEW_KEY) ?? "{}");
      const view = { log: log === true, smoothing: smoothing > 0 && smoothing < 1 ? smoothing : 0 };
      return typeof axis === "string" ? { axis, ...view } : view;
    } catch { return {}; } // storage is off, or holds something else
  }

  build() {
    this.axis = element("select", { "aria-label": "Axis" });
    this.axis.onchange = () => { this.range = null; this.change({ axis: this.axis.value }, true); };
    this.log = element("input", { type: "checkbox" });
    this.log.onchange = () => this.change({ log: this.log.checked }, false);
    this.smoothing = element("input", { type: "range", min: 0, max: 0.99, step: 0.01, "aria-label": "Smoothing" });
    this.amount = element("output");
    this.smoothing.oninput = () => this.change({ smoothing: Number(this.smoothing.value) }, false);
    this.reset = element("button", { type: "button", onclick: () => this.setRange(null) }, "Show all");
    this.hint = element("span", { class: "hint" }, "Drag over a chart to zoom in.");
    this.names = element("div", { class: "names", role: "group", "aria-label": "Runs" });
    this.sections = element("div");
    this.sections.ondblclick = () => this.setRange(null);
    this.root.replaceChildren(element("div", { class: "panel" },
      element("div", { class: "bar" },
        element("label", {}, "Along ", this.axis),
        element("label", {}, this.log, " Logarithmic"),
        element("label", {}, "Smoothing ", this.smoothing, this.amount),
        this.reset, this.hint),
      this.names, this.sections));
  }

  // Called at each rerun of the page, with what it wants drawn.
  update(data) {
    const before = this.data;
    this.data = data;
    this.runs = new Map(data.runs.map((run) => [run.id, run]));
    this.axes = new Map(data.axes);
    if (!this.axes.has(this.view.axis)) this.view.axis = "step";
    if (JSON.stringify(before?.axes) !== JSON.stringify(data.axes)) {
      this.axis.replaceChildren(...data.axes.map(([value, title]) => element("option", { value }, title)));
    }
    this.hidden.forEach((id) => { if (!this.runs.has(id)) this.hidden.delete(id); });
    this.arrange();
    this.showView();
  }

  // Keep the charts that stay, make those that come, remove those that go.
  arrange() {
    const wanted = new Map(this.data.metrics.map((metric) => [metric.name, metric]));
    for (const [name, chart] of this.charts) {
      if (wanted.has(name)) continue;
      this.watching.unobserve(chart.box);
      chart.remove();
      this.charts.delete(name);
    }
    const sections = new Map();
    for (const metric of wanted.values()) {
      const prefix = metric.name.includes("/") ? metric.name.split("/")[0] : "other";
      if (!sections.has(prefix)) sections.set(prefix, []);
      let chart = this.charts.get(metric.name);
      if (chart && JSON.stringify(chart.metric) !== JSON.stringify(metric)) {
        chart.metric = metric;
        chart.refresh();
      }
      if (!chart) {
        chart = new CurveChart(this, metric);
        this.charts.set(metric.name, chart);
        this.watching.observe(chart.box);
      }
      sections.get(prefix).push(chart.box);
    }
    this.order(sections);
  }

  order(sections) {
    const shape = JSON.stringify([...sections].map(([prefix, boxes]) => [prefix, boxes.map((box) => box.ariaLabel)]));
    if (shape === this.shape) return; // a chart that is put anew would lose its place on the screen
    this.shape = shape;
    this.sections.replaceChildren(...[...sections].map(([prefix, boxes], at) => element("details", { open: at < 2 },
      element("summary", {}, SECTIONS[prefix] ?? prefix, element("span", { class: "count" }, plural(boxes.length, "chart"))),
      element("div", { class: "grid" }, boxes))));
  }

  look({ target, isIntersecting }) {
    const chart = [...this.charts.values()].find(({ box }) => box === target);
    if (!chart) return;
    chart.inView = isIntersecting;
    if (isIntersecting && chart.stale) chart.load();
  }

  ask() {
    if (!this.data?.alive || document.hidden || !this.root.isConnected) return;
    this.charts.forEach((chart) => chart.refresh());
  }

  change(view, again) {
    Object.assign(this.view, view);
    try { localStorage.setItem(VIEW_KEY, JSON.stringify(this.view)); } catch { /* storage is off */ }
    this.showView();
    this.charts.forEach((chart) => (again ? chart.refresh() : chart.curves.length && chart.draw()));
  }

  setRange(range) {
    if (!range && !this.range) return;
    this.range = range;
    this.showView();
    clearTimeout(this.zooming);
    this.charts.forEach((chart) => { if (chart.curves.length) chart.draw(); });
    this.zooming = setTimeout(() => this.charts.forEach((chart) => chart.refresh()), ZOOM_MS);
  }

  showView() {
    this.axis.value = this.view.axis;
    this.axisTitle = this.axes.get(this.view.axis);
    this.log.checked = this.view.log;
    this.smoothing.value = this.view.smoothing;
    this.amount.textContent = this.view.smoothing ? this.view.smoothing.toFixed(2) : "off";
    this.reset.hidden = !this.range;
    this.hint.hidden = Boolean(this.range);
    this.showNames();
  }

  // A click hides or shows a run; with Alt, or a second click on the only one, it is seen alone, or all are again.
  showNames() {
    const runs = [...this.runs.values()];
    const listed = this.every ? runs : runs.slice(0, MAX_NAMES);
    const names = listed.map((run) => element("button", {
      type: "button", "aria-pressed": String(!this.hidden.has(run.id)), title: "Click to hide or show, Alt and click to show alone",
      onclick: (event) => this.toggle(run.id, event.altKey),
    }, element("i", { style: `background:${run.color}` }), element("span", {}, run.label)));
    if (listed.length < runs.length) {
      names.push(element("button", { type: "button", class: "more", onclick: () => { this.every = true; this.showNames(); } },
        `Show the names of all ${runs.length} runs`));
    }
    this.names.replaceChildren(...names);
  }

  toggle(id, alone) {
    const others = [...this.runs.keys()].filter((each) => each !== id);
    if (alone) this.hidden = new Set(others.every((each) => this.hidden.has(each)) ? [] : others);
    else if (!this.hidden.delete(id)) this.hidden.add(id);
    this.showNames();
    this.charts.forEach((chart) => { if (chart.curves.length) chart.draw(); });
  }

  remove() {
    clearInterval(this.timer);
    clearTimeout(this.zooming);
    this.watching.disconnect();
    this.sizing.disconnect();
    this.charts.forEach((chart) => chart.remove());
  }
}

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector("#curves-root");
  if (!MOUNTED.has(root)) MOUNTED.set(root, new CurvePanel(root));
  MOUNTED.get(root).update(data);
  return () => {
    MOUNTED.get(root)?.remove();
    MOUNTED.delete(root);
  };
}
