// Curves as numbers: from the columns of a table to the arrays of a chart.

// The curves of an answer, one for each run that has points: arrays along x, by run id.
function readCurves(table, runIds) {
  const { run, x, step, value, min, max, count, nonfinite } = table.columns;
  const curves = new Map();
  for (let row = 0; row < table.rows; row++) {
    const id = runIds[run.at(row)];
    if (!curves.has(id)) curves.set(id, { id, x: [], step: [], value: [], min: [], max: [], count: [], nonfinite: [] });
    const curve = curves.get(id);
    curve.x.push(Number(x.at(row)));
    curve.step.push(Number(step.at(row)));
    curve.value.push(value.at(row) ?? null);
    curve.min.push(min.at(row) ?? null);
    curve.max.push(max.at(row) ?? null);
    curve.count.push(Number(count.at(row)));
    curve.nonfinite.push(Number(nonfinite.at(row)));
  }
  return [...curves.values()];
}

// An exponential moving average without a bias at its start: each mean is divided by the weight of what it has seen.
// The weight falls with the distance along x, in thousandths of the width seen, so that curves of few points and of
// many smooth alike.
function smoothCurve(curve, weight, width) {
  let sum = 0;
  let seen = 0;
  let before = null;
  return curve.value.map((value, at) => {
    if (value === null) return null;
    const distance = before === null ? 1 : ((curve.x[at] - before) / (width || 1)) * 1000;
    const keep = weight ** Math.max(distance, 0.01);
    before = curve.x[at];
    sum = sum * keep + value * (1 - keep);
    seen = seen * keep + (1 - keep);
    return sum / seen;
  });
}

// The width of the range that is seen: of the zoom, or of all curves.
function findWidth(curves, range) {
  if (range) return range[1] - range[0];
  return Math.max(...curves.map(({ x }) => x.at(-1))) - Math.min(...curves.map(({ x }) => x[0]));
}

// Round numbers within a range, about five: 1, 2 or 5 times a power of ten.
function listTicks(low, high, log) {
  if (log) {
    const powers = Array.from({ length: Math.ceil(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 }, (_, at) => 10 ** (Math.floor(Math.log10(low)) + at));
    const factors = powers.length > 4 ? [1] : [1, 2, 5];
    const ticks = powers.flatMap((power) => factors.map((factor) => power * factor)).filter((tick) => tick >= low && tick <= high);
    if (ticks.length > 1) return ticks;
  }
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, at) => (first + at) * step);
}

// On a logarithmic axis what is not above zero has no place.
function keepPositive(values) {
  return values.map((value) => (value !== null && value > 0 ? value : null));
}

function countNotPositive(curve) {
  return curve.value.filter((value) => value !== null && value <= 0).length;
}

// Whether the points of a bucket differ, so that its extremes say more than its value.
function hasSpread(curve) {
  return curve.count.some((count) => count > 1);
}

// All x of the curves, ascending and each once, and for each list of values its values at these, null between.
function alignCurves(lists) {
  const all = Float64Array.from(new Set(lists.flatMap(({ x }) => x))).sort();
  const places = new Map([...all].map((x, at) => [x, at]));
  const aligned = lists.map(({ x, values }) => {
    const column = new Array(all.length).fill(null);
    x.forEach((each, at) => { column[places.get(each)] = values[at]; });
    return column;
  });
  return [all, ...aligned];
}

// The value of a curve at x: that of the last point at or before it.
function findValueAt(curve, x) {
  let low = 0;
  let high = curve.x.length - 1;
  if (high < 0 || x < curve.x[0]) return null;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (curve.x[middle] <= x) low = middle;
    else high = middle - 1;
  }
  return { value: curve.value[low], at: low };
}

function formatPlace(axis, x) {
  if (axis === "time") return new Date(x * 1000).toISOString().slice(0, 19).replace("T", " ");
  if (axis === "hours") return `${formatValue(x)} h`;
  if (axis === "epoch") return `epoch ${formatValue(x)}`;
  return `${axis === "tokens" ? "token" : "step"} ${Math.round(x).toLocaleString("en")}`;
}
