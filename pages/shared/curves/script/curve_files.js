// A chart as a file: the points as CSV, the picture as PNG or SVG.

function buildFileName(metric, ending) {
  return `${metric.replace(/[^\w.-]+/g, "-")}.${ending}`;
}

// What is drawn: a line for each bucket. A bucket in which no value is finite has none, and says how many weren't.
function buildCsv(curves, labels, axis) {
  const head = ["run_id", "run", axis === "step" ? "last_step" : axis, "step", "value", "min", "max", "points", "not_finite"];
  const lines = curves.flatMap((curve) => curve.x.map((x, at) => [
    curve.id, labels.get(curve.id), x, curve.step[at], curve.value[at], curve.min[at], curve.max[at],
    curve.count[at], curve.nonfinite[at],
  ]));
  return joinCsv([head, ...lines]);
}

function escapeXml(text) {
  return String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

const SVG_SIZE = { width: 960, height: 480, left: 80, right: 40, top: 44, bottom: 56 };

// The chart as a picture of its own, in the ranges that are seen: axes, curves and names.
function buildSvg({ title, unit, axisTitle, curves, runs, ranges, log, axis }) {
  const { width, height, left, right, top, bottom } = SVG_SIZE;
  const legend = 20 * Math.ceil(curves.length / 3);
  const spread = (value) => (log ? Math.log10(value) : value);
  const [low, high] = ranges.y.map(spread);
  const toX = (x) => left + ((x - ranges.x[0]) / (ranges.x[1] - ranges.x[0] || 1)) * (width - left - right);
  const toY = (y) => height - bottom - ((spread(y) - low) / (high - low || 1)) * (height - top - bottom);
  const parts = [
    `<text x="${left}" y="24" font-size="17" font-weight="600">${escapeXml(title)}</text>`,
    `<text x="${(left + width - right) / 2}" y="${height - 12}" text-anchor="middle">${escapeXml(axisTitle)}</text>`,
    `<text transform="translate(16 ${(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeXml(unit)}</text>`,
    `<clipPath id="area"><rect x="${left}" y="${top}" width="${width - left - right}" height="${height - top - bottom}"/></clipPath>`,
  ];
  for (const y of listTicks(...ranges.y, log)) {
    parts.push(
      `<path d="M${left} ${toY(y)}H${width - right}" stroke="#7f8c92" stroke-opacity="0.25"/>`,
      `<text x="${left - 8}" y="${toY(y) + 4}" text-anchor="end">${escapeXml(formatValue(y))}</text>`,
    );
  }
  for (const x of listTicks(...ranges.x, false)) {
    const label = axis === "time" ? formatPlace(axis, x).slice(5, 16) : formatValue(x);
    parts.push(`<text x="${toX(x)}" y="${height - bottom + 18}" text-anchor="middle">${escapeXml(label)}</text>`);
  }
  curves.forEach((curve, place) => {
    const run = runs.get(curve.id);
    const points = curve.x.map((x, at) => [x, curve.value[at]]).filter(([, y]) => y !== null && (!log || y > 0));
    const line = points.map(([x, y]) => `${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("L");
    const dash = run.dash.length ? ` stroke-dasharray="${run.dash.join(" ")}"` : "";
    parts.push(`<path clip-path="url(#area)" d="M${line}" fill="none" stroke="${run.color}" stroke-width="1.6"${dash}/>`);
    const [x, y] = [left + (place % 3) * 290, height + 14 + 20 * Math.floor(place / 3)];
    parts.push(
      `<path d="M${x} ${y - 4}h22" stroke="${run.color}" stroke-width="2.5"${dash}/>`,
      `<text x="${x + 28}" y="${y}">${escapeXml(run.label.length > 36 ? `${run.label.slice(0, 35)}…` : run.label)}</text>`,
    );
  });
  const box = `0 0 ${width} ${height + legend + 10}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box}" font-family="sans-serif" font-size="12" fill="#333">` +
    `<rect width="100%" height="100%" fill="#fff"/>${parts.join("")}</svg>`;
}

// The same picture in dots, at twice the size.
async function buildPng(svg) {
  const image = new Image();
  const address = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    image.src = address;
    await image.decode();
    const canvas = element("canvas");
    const [, , width, height] = svg.match(/viewBox="([^"]+)"/)[1].split(" ").map(Number);
    [canvas.width, canvas.height] = [2 * width, 2 * height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  } finally {
    URL.revokeObjectURL(address);
  }
}
