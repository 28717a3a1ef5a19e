// Markdown as elements, for texts that nobody vouches for.
//
// What is not Markdown shows as it is, HTML included. Nothing is loaded and nothing can be clicked: an image
// is its description and address, a link its text and address. The time is proportional to the length of the
// text, whatever the text: no pattern takes a gap in two ways, a search for a closing mark is remembered,
// and depth has a limit.

const LONG = 12_000; // characters, from where on what is out of view is laid out once it comes into view
const DEEPEST = 6; // lists and quotes within each other; what lies deeper is text
const FENCE = /^ {0,3}(`{3,}|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/s; // s: a line may hold U+2028, at which a point would stop
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/s;
const QUOTE = /^ {0,3}> ?(.*)$/s;
const DIVIDER = /^:?-+:?$/; // a cell of the line below a table's head

function renderMarkdown(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(linesOf(text), 0));
  return fragment;
}

// A text as Markdown, in an element that has its style.
function textElement(text) {
  return element("div", { class: text.length > LONG ? "text long" : "text" }, renderMarkdown(text));
}

function linesOf(text) {
  return text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
}

function renderPlain(text) {
  return element("div", { class: "plain", dir: "auto" }, text);
}

// The blocks from line `from` on, one element each; the line of each goes to the end of `begins`.
function blocks(lines, depth, from = 0, begins = []) {
  const made = [];
  let place = from;
  while (place < lines.length) {
    if (lines[place].trim() === "") { place += 1; continue; }
    const readers = [fence, heading, rule, table, quote, list];
    const reader = readers.find((read) => read(lines, place, depth, null)) ?? paragraph;
    begins.push(place);
    place = reader(lines, place, depth, made);
  }
  return made;
}

// Of a block that holds blocks: `dir="auto"` doesn't look into those that have a direction of their own.
function direction(text) {
  const firstLetter = /\p{L}/u.exec(text)?.[0] ?? "";
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(firstLetter) ? "rtl" : "ltr";
}

// Each reader answers, with `made` null, whether its block begins here; else it adds the block and says where
// the next begins.

function fence(lines, place, depth, made) {
  const opening = FENCE.exec(lines[place]);
  if (!made) return opening !== null;
  const mark = opening[1];
  let end = place + 1;
  while (end < lines.length && !isClosing(lines[end], mark)) end += 1;
  const code = element("code", {}, lines.slice(place + 1, end).join("\n"));
  const language = opening[2].trim().split(/\s/)[0];
  made.push(element("figure", { class: "code", dir: "ltr" },
    language && element("figcaption", {}, language), element("pre", { tabindex: "0" }, code)));
  return end + 1;
}

function isClosing(line, mark) {
  const text = line.trim();
  return text.length >= mark.length && text === mark[0].repeat(text.length);
}

function heading(lines, place, depth, made) {
  const match = HEADING.exec(lines[place]);
  if (!made) return match !== null;
  const level = Math.min(match[1].length + 2, 6); // the page's own headings are above
  const attributes = { dir: "auto", class: `level-${match[1].length}` };
  made.push(element(`h${level}`, attributes, inline(withoutTail(match[2]))));
  return place + 1;
}

// A heading's text without the # that may close it.
function withoutTail(text) {
  const trimmed = text.trimEnd();
  let end = trimmed.length;
  while (trimmed[end - 1] === "#") end -= 1;
  return end === 0 || trimmed[end - 1] === " " ? trimmed.slice(0, end).trimEnd() : trimmed;
}

function rule(lines, place, depth, made) {
  if (!made) return RULE.test(lines[place]);
  made.push(element("hr"));
  return place + 1;
}

function table(lines, place, depth, made) {
  if (!made) {
    if (!lines[place].includes("|") || !lines[place + 1]?.includes("-")) return false;
    const divider = cells(lines[place + 1]);
    return divider.every((cell) => DIVIDER.test(cell)) && cells(lines[place]).length === divider.length;
  }
  let end = place + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const columns = cells(lines[place]).length;
  const row = (line, tag) => {
    const texts = cells(line).slice(0, columns - 1).concat(cells(line).slice(columns - 1).join(" | "));
    return element("tr", {}, texts.map((text) => element(tag, { dir: "auto" }, inline(text))));
  };
  const whole = element("table", { dir: direction(lines[place]) },
    element("thead", {}, row(lines[place], "th")),
    element("tbody", {}, lines.slice(place + 2, end).map((line) => row(line, "td"))));
  made.push(element("div", { class: "table", tabindex: "0" }, whole));
  return end;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function quote(lines, place, depth, made) {
  if (!made) return depth < DEEPEST && QUOTE.test(lines[place]);
  const inner = [];
  let end = place;
  for (; end < lines.length && QUOTE.test(lines[end]); end += 1) inner.push(QUOTE.exec(lines[end])[1]);
  made.push(element("blockquote", { dir: direction(inner.join("\n")) }, blocks(inner, depth + 1)));
  return end;
}

function list(lines, place, depth, made) {
  const first = ITEM.exec(lines[place]);
  if (!made) return depth < DEEPEST && first !== null && !RULE.test(lines[place]);
  const numbered = /\d/.test(first[2]);
  const items = [];
  let end = place;
  while (end < lines.length) {
    const line = lines[end];
    const item = ITEM.exec(line);
    const indent = line.search(/\S/);
    const inner = items.at(-1);
    if (inner && indent >= inner.indent) inner.lines.push(line.slice(inner.indent));
    else if (item && /\d/.test(item[2]) === numbered && !RULE.test(line)) {
      const gap = Math.max(1, Math.min(item[3].length, 4));
      items.push({ indent: item[1].length + item[2].length + gap, lines: [item[4]] });
    } else if (indent === -1 && continues(lines, end + 1, inner.indent, numbered)) inner.lines.push("");
    else break;
    end += 1;
  }
  const children = items.map((item) => element("li", { dir: "auto" }, tight(blocks(item.lines, depth + 1))));
  const start = numbered ? Number.parseInt(first[2], 10) : null;
  const attributes = { dir: direction(first[4]), start: start === 1 ? null : start };
  made.push(element(numbered ? "ol" : "ul", attributes, children));
  return end;
}

// Whether a list goes on after an empty line.
function continues(lines, place, indent, numbered) {
  const line = lines[place] ?? "";
  const item = ITEM.exec(line);
  const isNext = item !== null && /\d/.test(item[2]) === numbered && !RULE.test(line);
  return isNext || line.search(/\S/) >= indent;
}

// The text of an item that is one paragraph stands in the item itself.
function tight(inner) {
  return inner.length > 0 && inner[0].tagName === "P" ? [...inner[0].childNodes, ...inner.slice(1)] : inner;
}

function paragraph(lines, place, depth, made) {
  let end = place + 1;
  const isOther = () => [fence, heading, rule, quote, list].some((read) => read(lines, end, depth, null));
  while (end < lines.length && lines[end].trim() !== "" && !isOther()) end += 1;
  made.push(element("p", { dir: "auto" }, inline(lines.slice(place, end).join("\n").trim())));
  return end;
}

// ---- within a line ----

const MARKS = [
  { mark: "**", tag: "strong" }, { mark: "__", tag: "strong" }, { mark: "~~", tag: "del" },
  { mark: "*", tag: "em" }, { mark: "_", tag: "em" },
];
const SPECIAL = /[\\`*_~![\n<]/g;
const LONGEST_SPAN = 4000; // characters between two marks; a mark without its other half is text
const ESCAPABLE = /[!-/:-@[-`{-~]/;

function inline(text, depth = 0) {
  const made = [];
  const search = closings(text);
  let plainFrom = 0;
  let place = 0;
  const add = (node, end) => {
    const plain = text.slice(plainFrom, place);
    made.push(node === null ? plain.trimEnd() : plain, node ?? element("br"));
    plainFrom = place = end;
  };
  while (true) {
    SPECIAL.lastIndex = place;
    const match = SPECIAL.exec(text);
    if (!match) break;
    place = match.index;
    const span = spanAt(text, place, depth, search);
    if (span) add(span.node, span.end);
    else place += 1;
  }
  made.push(text.slice(plainFrom));
  return made.filter((node) => node !== "");
}

function spanAt(text, place, depth, search) {
  const character = text[place];
  if (character === "\n") return { node: null, end: place + 1 };
  if (character === "\\") return escaped(text, place);
  if (character === "`") return code(text, place, search);
  if (character === "<") return address(text, place, search);
  if (character === "!" || character === "[") return link(text, place, depth, search);
  return depth < DEEPEST ? emphasis(text, place, depth, search) : null;
}

// The next place of a mark from `from` on, in time proportional to the text over all calls.
function closings(text) {
  const last = new Map();
  return (mark, from) => {
    const before = last.get(mark);
    if (before && before.from <= from && (before.at === -1 || before.at >= from)) return before.at;
    const at = text.indexOf(mark, from);
    last.set(mark, { from, at });
    return at;
  };
}

function escaped(text, place) {
  const next = text[place + 1];
  return next && ESCAPABLE.test(next) ? { node: next, end: place + 2 } : null;
}

function code(text, place, search) {
  let ticks = 1;
  while (text[place + ticks] === "`") ticks += 1;
  const mark = "`".repeat(Math.min(ticks, 3));
  const end = search(mark, place + ticks);
  if (ticks > 3 || end === -1) return { node: "`".repeat(ticks), end: place + ticks };
  const inner = text.slice(place + ticks, end).replaceAll("\n", " ");
  const padded = inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "";
  return { node: element("code", { dir: "auto" }, padded ? inner.slice(1, -1) : inner), end: end + ticks };
}

function address(text, place, search) {
  if (!/^<https?:\/\//i.test(text.slice(place, place + 9))) return null;
  const end = search(">", place);
  const inner = end === -1 || end - place > 2048 ? "" : text.slice(place + 1, end);
  return inner === "" || /\s/.test(inner) ? null : { node: shownAddress(inner), end: end + 1 };
}

function link(text, place, depth, search) {
  const image = text[place] === "!";
  const open = image ? place + 1 : place;
  if (text[open] !== "[") return null;
  const middle = search("](", open);
  if (middle === -1 || middle - open > LONGEST_SPAN) return null;
  const label = text.slice(open + 1, middle);
  const end = search(")", middle + 2);
  if (end === -1 || end - middle > 2048 || label.includes("[") || label.includes("\n\n")) return null;
  const [target] = text.slice(middle + 2, end).trim().split(/\s/, 1);
  const words = image
    ? [symbol("image"), label || "image"]
    : element("span", { class: "label" }, inline(label, depth + 1));
  const node = element("span", { class: image ? "image" : "link" }, words, " ", shownAddress(target));
  return { node, end: end + 1 };
}

function shownAddress(target) {
  return element("bdi", { class: "address", dir: "ltr" }, target);
}

function emphasis(text, place, depth, search) {
  const { mark, tag } = MARKS.find((candidate) => text.startsWith(candidate.mark, place)) ?? {};
  if (!mark || /\s|^$/.test(text[place + mark.length] ?? "")) return null;
  const inWord = mark[0] === "_" && /[\p{L}\p{N}]/u.test(text[place - 1] ?? "");
  const end = inWord ? -1 : closing(text, mark, place + mark.length, search);
  if (end === -1) return null;
  const inner = inline(text.slice(place + mark.length, end), depth + 1);
  return { node: element(tag, {}, inner), end: end + mark.length };
}

// Where a mark closes: not after a gap, not amid a word for _, and a single * is not half of a double one.
function closing(text, mark, from, search) {
  let end = search(mark, from);
  for (let tries = 0; end !== -1 && end - from <= LONGEST_SPAN && tries < 12; tries += 1) {
    const single = mark.length === 1 && text[end + 1] === mark;
    const amid = mark[0] === "_" && /[\p{L}\p{N}]/u.test(text[end + mark.length] ?? "");
    if (end > from && !single && !amid && !/\s/.test(text[end - 1])) {
      return mark.length === 2 && text[end + 2] === mark[0] ? end + 1 : end;
    }
    end = text.indexOf(mark, end + (single ? 2 : mark.length));
  }
  return -1;
}
