// What is written into the cells, and into the same columns of a file.

const DAY_S = 86_400;

function formatSeconds(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

// Times of the store are UTC, in milliseconds.
function formatMoment(at) {
  const ago = (Date.now() - at) / 1000;
  if (ago < 45) return "just now";
  if (ago < 7 * DAY_S) return `${formatSeconds(ago)} ago`;
  return new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
}

// The digits that an interval supports, as store.core.formatting.compute_decimals has them.
function formatEstimate(value, low, high) {
  if (low === null || high === null || !(high > low)) return { value: formatValue(value), range: "" };
  const digits = Math.min(6, Math.max(0, -Math.floor(Math.log10((high - low) / 6))));
  const write = (number) => number.toFixed(digits).replace("-", "−").replace(/^−(0(\.0+)?)$/, "$1");
  return { value: write(value), range: `${write(low)} to ${write(high)}` };
}

function formatNumber(value, column) {
  if (column.unit === "seconds") return formatSeconds(value);
  if (column.unit === "parameters" && value >= 1e6) return `${formatValue(Number((value / 1e6).toPrecision(3)))} M`;
  return formatValue(value);
}

// The content of a cell. An estimate is written with its interval and n; its ink says whether it is above or below 0.
function buildCell(row, column, shown) {
  const value = row[column.name];
  if (value === null || value === undefined) return [element("span", { class: "none", "aria-label": "none" }, "–")];
  if (column.kind === "estimate") return buildEstimate(row, column);
  if (column.kind === "number") return [element("span", { class: "number" }, formatNumber(value, column))];
  if (column.kind === "time") return [element("span", { title: `${new Date(value).toISOString().slice(0, 16).replace("T", " ")} UTC` }, formatMoment(value))];
  if (column.kind === "tags") return value.map((tag) => element("span", { class: "tag" }, tag));
  const title = shown?.[value]?.title ?? value;
  const color = shown?.[value]?.color;
  return [element("span", { class: color ? "pill" : "text", title, ...(color ? { style: `--ink:${color}` } : {}) }, title)];
}

function buildEstimate(row, column) {
  const [value, low, high, n] = ["", ".low", ".high", ".n"].map((end) => row[column.name + end]);
  const text = formatEstimate(value, low, high);
  const sure = low > 0 ? 1 : high < 0 ? -1 : 0;
  const better = sure * (column.better === "lower" ? -1 : 1);
  const ink = low === null || !column.is_change || !column.better ? "" : better > 0 ? "better" : better < 0 ? "worse" : "unsure";
  const range = [text.range || "no interval", n === null || n === undefined ? "" : `n ${n.toLocaleString("en")}`].filter(Boolean).join(", ");
  const note = ink === "unsure" ? " Can't be told from 0." : "";
  return [element("span", { class: `number ${ink}`, title: `${column.title}: ${text.value} ${column.unit}, 95% interval ${range}.${note}` }, text.value),
    element("small", {}, range)];
}

// A status with the progress of a run that is active.
function buildStatus(row, shown, active) {
  const state = shown?.[row.status];
  const pill = element("span", { class: "pill", style: `--ink:${state?.color ?? "currentColor"}` }, state?.title ?? row.status);
  if (!active.includes(row.status) || !(row.progress_total > 0)) return [pill];
  const share = Math.min(1, row.progress_done / row.progress_total);
  return [pill, element("progress", { max: 1, value: share, "aria-label": `${Math.round(100 * share)}% done` })];
}

// All rows as CSV, with numbers in full and the ends of intervals as columns.
function buildRunsCsv(rows, columns) {
  const ends = (column) => (column.kind === "estimate" ? ["", ".low", ".high", ".n"] : [""]).map((end) => column.name + end);
  const names = ["run_id", "name", ...columns.flatMap(ends)];
  const times = new Set(columns.filter(({ kind }) => kind === "time").map(({ name }) => name));
  const write = (value, name) => (times.has(name) && value !== null ? new Date(value).toISOString() : Array.isArray(value) ? value.join(", ") : value);
  return joinCsv([names, ...rows.map((row) => names.map((name) => write(row[name], name)))]);
}
