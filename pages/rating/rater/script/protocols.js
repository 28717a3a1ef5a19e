// How each protocol is answered. One of these lives as long as its task is on the desk. Each has:
//   keys()      what a key does, and how the sheet of keys calls it; buttons press the same keys by
//               `desk.press(KEY)`. A key counts once the task was seen, except where it has `field: true`
//               (it only leads to a field) or `now: true` (it only changes what is in view)
//   controls()  the buttons in the bar
//   buildSide()    the panel next to the answers, or null
//   state()     what is chosen so far, to come back to; null for nothing
//   decorate(articles)  what is chosen, on the answers
// and, where it needs them:
//   inField(field, key)  a key in a field with `data-desk` label or note; whether it means something there
//   begin(before)        once it is on the desk; `before`: the protocol of the task that was there
//   swiped(direction)    a swipe on the bar
// It is made with what was chosen before: `state`, or the `answer` that was given already. It tells the desk
// `changed()` when its choice is another, `keepDraft()` as something is typed, and `rate(answer)` when all is
// chosen, upon which the next task is on the desk at once; nothing happens where this one wasn't seen yet.

class Pairwise {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.choice = answer?.choice ?? null;
  }

  keys() {
    const { ties, both_bad } = this.desk.round;
    const choices = [["a", "A", "A is better"], ties && ["t", "tie", "Equally good"],
      both_bad && ["n", "both_bad", "Neither is good"], ["b", "B", "B is better"]].filter(Boolean);
    const action = (choice, label) => ({ label, choice, run: () => this.choose(choice) });
    return new Map(choices.map(([key, choice, label]) => [key, action(choice, label)]));
  }

  choose(choice) {
    this.desk.rate({ choice });
  }

  controls() {
    return [...this.keys()].map(([key, { label, choice }]) => keyButton(this.desk, key, label, {
      kind: choice === "A" || choice === "B" ? "choice" : "choice between", pressed: this.choice === choice,
    }));
  }

  buildSide() { return null; }

  state() { return null; }

  decorate(articles) {
    articles.forEach((article, place) => article.classList.toggle("chosen", this.choice === letter(place)));
  }

  swiped(direction) { this.desk.press(direction === "left" ? "a" : "b"); }
}

class Rank {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.groups = state?.groups ?? groupsOf(answer?.ranks ?? []); // places, best first, ties together
    this.ties = false; // the next one with the last group
  }

  get placed() { return this.groups.flat(); }

  get count() { return this.desk.task.answers.length; }

  keys() {
    const keys = new Map();
    for (let place = 0; place < this.count; place += 1) {
      const run = () => this.place(place);
      keys.set(letter(place).toLowerCase(), { label: `${letter(place)} comes next`, run });
      keys.set(String(place + 1), { run });
    }
    keys.set("=", { label: "Tie with the previous answer", run: () => this.tie() });
    keys.set("backspace", { label: "Undo the last answer", run: () => this.takeBack() });
    keys.set("enter", { label: "Submit ranking", run: () => this.send() });
    return keys;
  }

  place(place) {
    if (this.placed.includes(place)) return;
    if (this.ties) this.groups.at(-1).push(place);
    else this.groups.push([place]);
    this.ties = false;
    this.desk.changed();
  }

  tie() {
    this.ties = this.groups.length > 0 && this.placed.length < this.count;
    this.desk.changed();
  }

  takeBack() {
    if (this.ties) this.ties = false;
    else {
      this.groups.at(-1)?.pop();
      this.groups = this.groups.filter((group) => group.length > 0);
    }
    this.desk.changed();
  }

  send() {
    const left = this.count - this.placed.length;
    if (left > 0) this.desk.say(`Without a rank yet: ${plural(left, "answer")}.`, "warn");
    else this.desk.rate({ ranks: ranksOf(this.groups, this.count) });
  }

  controls() {
    const order = this.groups.flatMap((group, index) => [
      element("span", { class: "place" }, `${index + 1}.`),
      element("strong", {}, group.map(letter).join(" = ")),
    ]);
    const strip = element("div", { class: "strip", "aria-live": "polite" },
      order.length ? order : element("span", { class: "hint" }, "Best first: press a letter or tap an answer"),
      this.ties && element("span", { class: "hint" }, "= …"));
    const letters = Array.from({ length: this.count }, (_, place) =>
      keyButton(this.desk, letter(place).toLowerCase(), `Answer ${letter(place)}`,
        { kind: "choice letter-choice", disabled: this.placed.includes(place) }));
    const isWhole = this.placed.length === this.count;
    return [strip, element("div", { class: "row" }, letters), element("div", { class: "row" },
      keyButton(this.desk, "=", "Tie", { pressed: this.ties }),
      keyButton(this.desk, "backspace", "Undo", { disabled: this.placed.length === 0 }),
      keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: !isWhole }))];
  }

  buildSide() { return null; }

  state() { return this.groups.length ? { groups: this.groups } : null; }

  decorate(articles) {
    articles.forEach((article, place) => {
      const rank = this.groups.findIndex((group) => group.includes(place));
      article.querySelector(".badge").textContent = rank === -1 ? "" : `rank ${rank + 1}`;
      article.classList.toggle("chosen", rank === 0);
    });
  }
}

function groupsOf(ranks) {
  const groups = [];
  ranks.forEach((rank, place) => (groups[rank - 1] ??= []).push(place));
  return groups.filter(Boolean);
}

function ranksOf(groups, count) {
  return Array.from({ length: count }, (_, place) => groups.findIndex((group) => group.includes(place)) + 1);
}

class Rubric {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.scores = { ...(state?.scores ?? answer?.scores) };
    this.focus = this.left[0] ?? 0;
  }

  get criteria() { return this.desk.round.criteria; }

  // Places of criteria without a score.
  get left() {
    return [...this.criteria.keys()].filter((index) => !(this.criteria[index].name in this.scores));
  }

  keys() {
    const keys = new Map();
    const best = this.criteria[this.focus].anchors.length;
    for (let score = 1; score <= best; score += 1) {
      const label = { 1: "Lowest score of the selected criterion", [best]: "Highest score" }[score] ?? "Between";
      keys.set(pointKey(score), { label, run: () => this.give(this.focus, score) });
    }
    for (const [index, { anchors }] of this.criteria.entries()) {
      for (let score = 1; score <= anchors.length; score += 1) {
        keys.set(`${index}:${score}`, { run: () => this.give(index, score) });
      }
    }
    keys.set("arrowleft", { label: "Previous criterion", run: () => this.move(this.focus - 1) });
    keys.set("arrowright", { label: "Next criterion", run: () => this.move(this.focus + 1) });
    keys.set("enter", { label: "Submit scores", run: () => this.send() });
    for (const index of this.criteria.keys()) keys.set(`criterion ${index}`, { run: () => this.move(index) });
    return keys;
  }

  give(index, score) {
    this.scores[this.criteria[index].name] = score;
    this.move(this.left.find((other) => other > index) ?? this.left[0] ?? index + 1);
  }

  move(index) {
    this.focus = Math.max(0, Math.min(this.criteria.length - 1, index));
    this.desk.changed();
    this.panel.querySelector(".criterion.focus")?.scrollIntoView({ block: "nearest" });
  }

  send() {
    const names = this.left.map((index) => this.criteria[index].name).join(", ");
    if (names) this.desk.say(`Without a score yet: ${names}.`, "warn");
    else this.desk.rate({ scores: this.scores });
  }

  controls() {
    const given = this.criteria.length - this.left.length;
    return [element("span", { class: "hint" }, `${given} of ${this.criteria.length} scored`),
      keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: this.left.length > 0 })];
  }

  buildSide() {
    this.panel = element("div", { class: "criteria", role: "group", "aria-label": "Criteria" });
    return this.panel;
  }

  state() { return Object.keys(this.scores).length ? { scores: this.scores } : null; }

  decorate() {
    this.panel.replaceChildren(...this.criteria.map((criterion, index) => this.criterion(criterion, index)));
  }

  criterion({ name, question, anchors }, index) {
    const score = this.scores[name];
    const open = index === this.focus;
    const pressed = (key) => ({ type: "button", "data-key": key, onclick: () => this.desk.press(key) });
    const head = element("button",
      { ...pressed(`criterion ${index}`), class: "criterion-head", "aria-expanded": String(open) },
      element("strong", { dir: "auto" }, name),
      element("span", { class: "score" }, score ? `${score} of ${anchors.length}` : "no score"));
    const points = anchors.map((anchor, point) => element("button",
      { ...pressed(`${index}:${point + 1}`), class: "point", "aria-pressed": String(score === point + 1) },
      keyCap(pointKey(point + 1)), element("span", { dir: "auto" }, anchor || `${point + 1}`)));
    return element("section", { class: `criterion${open ? " focus" : ""}` }, head,
      open && element("p", { class: "question", dir: "auto" }, question),
      open && element("div", { class: "points", role: "group", "aria-label": name }, points));
  }
}

function pointKey(score) {
  return String(score % 10); // 0 is the tenth
}

class PassFail {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.passed = state?.passed ?? answer?.passed ?? null;
    this.reasons = new Set(state?.reasons ?? answer?.reasons ?? []);
  }

  keys() {
    const keys = new Map([
      ["p", { label: "Pass", run: () => this.decide(true) }],
      ["f", { label: "Fail", run: () => this.decide(false) }],
    ]);
    this.desk.round.reasons.forEach((reason, index) => {
      const label = index < 9 ? `Reason: ${reason}` : "";
      keys.set(reasonKey(index), { label, run: () => this.toggle(reason) });
    });
    keys.set("enter", { label: "Send", run: () => this.send() });
    return keys;
  }

  decide(passed) {
    this.passed = passed;
    this.desk.changed();
  }

  toggle(reason) {
    if (!this.reasons.delete(reason)) this.reasons.add(reason);
    this.desk.changed();
  }

  send() {
    const reasons = this.desk.round.reasons.filter((reason) => this.reasons.has(reason)); // in their order
    if (this.passed === null) this.desk.say("Press P for pass or F for fail first.", "warn");
    else this.desk.rate({ passed: this.passed, reasons });
  }

  controls() {
    const reasons = this.desk.round.reasons.map((reason, index) =>
      keyButton(this.desk, reasonKey(index), reason, { kind: "chip", pressed: this.reasons.has(reason) }));
    const group = { class: "row reasons", role: "group", "aria-label": "Reasons" };
    return [
      element("div", { class: "row" },
        keyButton(this.desk, "p", "Pass", { kind: "choice", pressed: this.passed === true }),
        keyButton(this.desk, "f", "Fail", { kind: "choice", pressed: this.passed === false }),
        keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: this.passed === null })),
      reasons.length > 0 && element("div", group, reasons),
    ];
  }

  buildSide() { return null; }

  state() {
    if (this.passed === null && this.reasons.size === 0) return null;
    return { passed: this.passed, reasons: [...this.reasons] };
  }

  decorate() {}
}

function reasonKey(index) {
  return index < 9 ? String(index + 1) : `reason ${index + 1}`; // by its button alone
}

const DIFF_AFTER = 120; // ms without a key until the difference is redrawn

class Correction {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.text = state?.text ?? answer?.text ?? this.original;
  }

  get original() { return this.desk.task.answers[0] ?? ""; }

  keys() {
    return new Map([
      ["e", { label: "Edit the text (Esc to leave the field)", field: true, run: () => this.field.focus() }],
      ["ctrl+enter", { label: "Submit the edited text", run: () => this.send(false) }],
      ["ctrl+shift+enter", { label: "No changes needed", run: () => this.send(true) }],
    ]);
  }

  send(asItIs) {
    if (asItIs) this.text = this.field.value = this.original;
    else if (this.text === this.original) {
      this.desk.say("Nothing changed. Press Ctrl+Shift+Enter if no changes are needed.", "warn");
      return;
    } else if (this.text.trim() === "") {
      this.desk.say("The text is empty. Write a better answer, or skip this item.", "warn");
      return;
    }
    this.editing = this.desk.root.getRootNode().activeElement === this.field;
    this.desk.rate({ text: this.text });
  }

  controls() {
    return [keyButton(this.desk, "e", "Edit", { icon: "edit" }),
      keyButton(this.desk, "ctrl+shift+enter", "No changes needed", { disabled: this.text !== this.original }),
      keyButton(this.desk, "ctrl+enter", "Send", { kind: "primary", disabled: this.text === this.original })];
  }

  buildSide() {
    this.field = element("textarea",
      { "data-desk": "text", "aria-label": "Better answer", dir: "auto", spellcheck: "true" });
    this.field.value = this.text;
    this.field.addEventListener("input", () => {
      const wasSame = this.text === this.original;
      this.text = this.field.value;
      clearTimeout(this.pending);
      this.pending = setTimeout(() => this.compare(), DIFF_AFTER);
      if (wasSame !== (this.text === this.original)) this.desk.showBar();
      this.desk.keepDraft();
    });
    this.difference = element("div",
      { class: "body difference", tabindex: "0", dir: "auto", role: "region", "aria-label": "What changes" });
    this.compare();
    const column = (title, inner) =>
      element("section", { class: "answer" }, element("header", { class: "head" }, title), inner);
    return element("div", { class: "editor" },
      column("Better answer", this.field), column("What changes", this.difference));
  }

  compare() {
    const same = this.text === this.original;
    this.difference.replaceChildren(...(same
      ? [element("p", { class: "empty" }, "Nothing yet: what you change shows here.")]
      : correctionDiff(this.original, this.text)));
  }

  state() { return this.text === this.original ? null : { text: this.text }; }

  decorate() {}
}

const PROTOCOLS = {
  pairwise: Pairwise, rank: Rank, rubric: Rubric, pass_fail: PassFail, correction: Correction,
  label: Label, spans: Spans, free_text: FreeText,
};

function protocolFor(round) {
  return round.several_labels ? SeveralLabels : PROTOCOLS[round.protocol];
}

const SKIP_REASONS = ["I can't tell", "I don't know the subject", "Something is broken"];

// In place of a protocol's buttons while it is asked why a task is skipped.
class Skipping {
  constructor(desk) {
    this.desk = desk;
  }

  keys() {
    const keys = new Map();
    for (const [index, reason] of SKIP_REASONS.entries()) {
      keys.set(String(index + 1), { label: reason, run: () => this.skip(reason) });
    }
    keys.set(String(keys.size + 1), { label: "Another reason", field: true, run: () => this.write() });
    keys.set("escape", { label: "Don't skip", run: () => this.desk.stopSkipping() });
    return keys;
  }

  skip(reason) {
    this.desk.rate({ skipped: true, reason });
  }

  write() {
    this.writing = true;
    this.desk.showBar();
    this.field.focus();
  }

  controls() {
    this.field = this.writing ? element("input", { type: "text", "data-desk": "reason", maxlength: "300",
      "aria-label": "Reason for skipping", placeholder: "Reason, then Enter", dir: "auto" }) : null;
    const buttons = [...this.keys()].map(([key, { label }]) =>
      keyButton(this.desk, key, label, { kind: "chip" }));
    return [element("strong", {}, "Why skip it?"), element("div", { class: "row" }, buttons), this.field];
  }

  written() {
    const reason = this.field.value.trim();
    if (reason) this.skip(reason);
    else this.desk.say("Write a reason, or press Esc.", "warn");
  }
}
