// Marking pieces of a text with labels: by mouse and finger with the browser's own selection, by keys word by
// word or character by character. It is one of the protocols of protocols.js, and has what they have.
//
// Places here are UTF-16 units, as the browser counts; an answer has code points, as the engine does. The
// text is shown as it is, without Markdown, so that each place of it is one of the text.

const KEYED_SPAN_LABELS = 9; // at most so many have a key; the others have their button
const NOTHING_KEY = "0";
const EXCERPT = 40; // characters of a piece in the list
const MARK_COLORS = ["blue", "green", "orange", "violet", "red", "yellow", "gray"]; // of the theme
const GRAPHEMES = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const WORDS = new Intl.Segmenter(undefined, { granularity: "word" }); // of scripts without gaps, too

class Spans {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.text = spannedText(desk.round, desk.task);
    this.spans = state?.spans ?? (answer?.spans ?? []).map((span) => this.fromPoints(span));
    this.range = null; // {from, to}: what a label would mark
    this.byCharacter = false;
  }

  get labels() { return this.desk.round.labels; }

  // ---- places ----

  fromPoints({ start, end, label }) {
    const points = [...this.text];
    const from = points.slice(0, start).join("").length;
    return { from, to: from + points.slice(start, end).join("").length, label };
  }

  toPoints({ from, to, label }) {
    const start = [...this.text.slice(0, from)].length;
    return { start, end: start + [...this.text.slice(from, to)].length, label };
  }

  // What the keys step over: words, or what a reader takes for one character.
  get pieces() {
    const parts = [...(this.byCharacter ? GRAPHEMES : WORDS).segment(this.text)];
    const steps = this.byCharacter ? parts : parts.filter((part) => part.isWordLike);
    return steps.map(({ segment, index }) => ({ from: index, to: index + segment.length }));
  }

  // ---- what keys and buttons do ----

  keys() {
    const keys = new Map();
    this.labels.forEach((label, index) => {
      const run = () => this.mark(label);
      keys.set(`span label ${index}`, { run });
      if (index < KEYED_SPAN_LABELS) keys.set(String(index + 1), { label: `Mark as ${label}`, run });
    });
    keys.set(NOTHING_KEY, { label: "Nothing to mark", run: () => this.sendNothing() });
    keys.set("arrowright", { label: "The next word", run: () => this.step(1) });
    keys.set("arrowleft", { label: "The word before", run: () => this.step(-1) });
    keys.set("e", { label: "Extend by a word", run: () => this.extend() });
    keys.set("r", { label: "Reduce by a word", run: () => this.reduce() });
    keys.set("c", { label: "Step by characters, or again by words", run: () => this.changeStep() });
    keys.set("n", { label: "The next marked piece", run: () => this.nextMark() });
    keys.set("backspace", { label: "Remove the mark", run: () => this.remove() });
    keys.set("enter", { label: "Send the marks", run: () => this.send() });
    for (const [key, by] of SCROLLS) keys.set(key, { now: true, run: () => { this.body.scrollTop += by; } });
    this.spans.forEach((span, index) => keys.set(`mark ${index}`, { run: () => this.select(span) }));
    return keys;
  }

  step(by) {
    const { pieces, range } = this;
    const next = range === null ? pieces.at(by > 0 ? 0 : -1)
      : by > 0 ? pieces.find((piece) => piece.from >= range.to)
      : pieces.findLast((piece) => piece.to <= range.from);
    if (next) this.select(next);
  }

  extend() {
    if (this.range === null) { this.step(1); return; }
    const next = this.pieces.find((piece) => piece.to > this.range.to);
    if (next) this.select({ from: this.range.from, to: next.to });
  }

  reduce() {
    const { range } = this;
    const last = range && this.pieces.findLast((piece) => piece.to < range.to && piece.to > range.from);
    if (last) this.select({ from: range.from, to: last.to });
  }

  changeStep() {
    this.byCharacter = !this.byCharacter;
    this.desk.say(this.byCharacter ? "Keys step by characters." : "Keys step by words.");
  }

  nextMark() {
    const inOrder = [...this.spans].sort((one, other) => one.from - other.from || one.to - other.to);
    const place = inOrder.findIndex((span) => isSameRange(span, this.range ?? {}));
    const next = inOrder[(place + 1) % inOrder.length];
    if (next) this.select(next);
  }

  select(range) {
    this.range = range && { from: range.from, to: range.to };
    this.desk.changed();
    this.body.querySelector(".selected")?.scrollIntoView({ block: "nearest" });
  }

  mark(label) {
    const { range } = this;
    if (range === null) {
      this.desk.say("Select a piece of the text first: drag over it, or press → for its first word.",
        "warn");
      return;
    }
    const { overlapping } = this.desk.round;
    if (this.spans.some((span) => isSameRange(span, range) && span.label === label)) return;
    const apart = (span) => overlapping || !isSameRange(span, range); // the same piece is relabeled
    const others = this.spans.filter(apart);
    const hit = overlapping ? null : others.find((span) => span.from < range.to && range.from < span.to);
    if (hit) {
      const overlapped = `“${this.excerpt(hit)}” (${hit.label})`;
      this.desk.say(`It overlaps ${overlapped}. Remove that mark, or choose less.`, "warn");
      return;
    }
    this.spans = [...others, { ...range, label }];
    this.desk.changed();
  }

  // The mark that is selected, or touches what is, or was made last.
  remove() {
    const { range } = this;
    const at = this.spans.findLastIndex((span) => range && isSameRange(span, range));
    const near = this.spans.findLastIndex((span) => range && span.from < range.to && range.from < span.to);
    const place = at >= 0 ? at : near >= 0 ? near : this.spans.length - 1;
    this.spans = this.spans.filter((span, index) => index !== place);
    this.desk.changed();
  }

  send() {
    if (this.spans.length === 0) {
      this.desk.say("Nothing is marked. Press 0 if there is nothing to mark.", "warn");
      return;
    }
    const spans = this.spans.map((span) => this.toPoints(span));
    this.desk.rate({ spans: spans.sort((one, other) => one.start - other.start || one.end - other.end) });
  }

  sendNothing() {
    if (this.spans.length) this.desk.say("Pieces are marked: remove them first (⌫), or send them.", "warn");
    else this.desk.rate({ spans: [] });
  }

  // ---- the browser's selection ----

  // A finger's selection goes when it taps a button: what was selected last is kept.
  takeSelection(body) {
    const chosen = selectedRange(this.desk.root.getRootNode(), body);
    if (!chosen) return;
    const inner = this.text.slice(chosen.from, chosen.to);
    const from = chosen.from + inner.length - inner.trimStart().length;
    const to = chosen.to - (inner.length - inner.trimEnd().length);
    if (from < to) this.range = { from, to };
  }

  // A click that selects nothing: on a mark it selects that, elsewhere it lets go.
  clicked(event) {
    if (selectedRange(this.desk.root.getRootNode(), this.body)) return;
    const at = Number(event.target.closest?.("[data-from]")?.dataset.from ?? -1);
    this.select(this.spans.findLast((span) => span.from <= at && at < span.to) ?? null);
  }

  // ---- what is shown ----

  controls() {
    const labels = this.labels.map((label, index) => keyButton(this.desk,
      index < KEYED_SPAN_LABELS ? String(index + 1) : `span label ${index}`, label,
      { kind: "chip span-label" }));
    labels.forEach((button, index) => this.paint(button, index));
    const none = this.spans.length === 0;
    return [element("div", { class: "row labels", role: "group", "aria-label": "Labels" }, labels),
      element("div", { class: "row" },
        keyButton(this.desk, NOTHING_KEY, "Nothing to mark", { kind: "chip", disabled: !none }),
        keyButton(this.desk, "backspace", "Remove", { disabled: none }),
        keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: none }))];
  }

  buildSide() {
    const body = element("div", { class: "body marked", tabindex: "0", dir: "auto", role: "region",
      "aria-label": "Text to mark" });
    const listen = () => {
      if (body.isConnected) this.takeSelection(body);
      else document.removeEventListener("selectionchange", listen);
    };
    document.addEventListener("selectionchange", listen);
    body.addEventListener("click", (event) => this.clicked(event));
    this.body = body;
    this.list = element("div", { class: "marks", role: "group", "aria-label": "Marked pieces" });
    return element("section", { class: "answer marking" }, body, this.list);
  }

  decorate() {
    const prompt = this.desk.work.querySelector(".prompt");
    if (prompt) prompt.hidden = this.desk.round.subject === "prompt" && this.desk.task.prompt.length === 1;
    const scrolled = this.body.scrollTop;
    this.body.replaceChildren(...this.segments());
    this.body.scrollTop = scrolled;
    const inOrder = [...this.spans.entries()].sort(([, one], [, other]) => one.from - other.from);
    this.list.replaceChildren(...inOrder.map(([index, span]) => this.listed(span, index)));
  }

  listed(span, index) {
    const isChosen = this.range !== null && isSameRange(span, this.range);
    const button = element("button", { type: "button", class: "button small mark-chip", dir: "auto",
      "data-key": `mark ${index}`, "aria-pressed": String(isChosen),
      onclick: () => this.desk.press(`mark ${index}`) },
    element("strong", {}, span.label), element("span", {}, this.excerpt(span)));
    return this.paint(button, this.labels.indexOf(span.label));
  }

  // The text, cut wherever a mark or the selection begins or ends.
  segments() {
    const ends = [...this.spans, ...(this.range ? [this.range] : [])].flatMap(({ from, to }) => [from, to]);
    const cuts = [...new Set([0, ...ends, this.text.length])].sort((one, other) => one - other);
    return cuts.slice(1).map((to, index) => this.segment(cuts[index], to));
  }

  segment(from, to) {
    const over = this.spans.filter((span) => span.from <= from && span.to >= to);
    const isChosen = this.range !== null && this.range.from <= from && this.range.to >= to;
    const ended = over.filter((span) => span.to === to).map((span) => span.label).join(" + ");
    const piece = element(over.length ? "mark" : "span", {
      "data-from": String(from), class: isChosen ? "selected" : null, "data-labels": ended || null,
    }, this.text.slice(from, to));
    return over.length ? this.paint(piece, this.labels.indexOf(over.at(-1).label)) : piece;
  }

  paint(node, index) {
    node.style.setProperty("--mark", `var(--st-${MARK_COLORS[index % MARK_COLORS.length]}-color)`);
    return node;
  }

  excerpt({ from, to }) {
    const points = [...this.text.slice(from, to)];
    return points.length > EXCERPT ? `${points.slice(0, EXCERPT).join("")} …` : points.join("");
  }

  state() { return this.spans.length ? { spans: this.spans } : null; }
}

function isSameRange(one, other) {
  return one.from === other.from && one.to === other.to;
}

// The text that is marked: the answer, or what was asked last.
function spannedText(round, task) {
  if (round.subject === "answer") return task.answers[0] ?? "";
  return task.prompt.findLast((turn) => turn.role === "user")?.content ?? "";
}

// What is selected of `body`, as places in its text; null for nothing. A selection within a shadow tree is
// told by the tree itself (Chromium), by composed ranges (the standard), or as any other (older Firefox).
function selectedRange(root, body) {
  const selection = root.getSelection?.() ?? document.getSelection();
  if (!selection || selection.rangeCount === 0) return null;
  const range = root.getSelection ? selection.getRangeAt(0)
    : selection.getComposedRanges?.({ shadowRoots: [root] })[0] ?? selection.getRangeAt(0);
  if (!body.contains(range.startContainer) || !body.contains(range.endContainer)) return null;
  const placeOf = (node, offset) => {
    const before = document.createRange();
    before.setStart(body, 0);
    before.setEnd(node, offset);
    return before.toString().length;
  };
  const from = placeOf(range.startContainer, range.startOffset);
  const to = placeOf(range.endContainer, range.endOffset);
  return from < to ? { from, to } : null;
}
