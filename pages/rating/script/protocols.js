// How each protocol is answered. One of these lives as long as its task is shown. Each has:
//   keys()      what a key does, and how the sheet of keys calls it; buttons press the same keys
//   controls()  the buttons in the bar
//   beside()    what stands beside the answers, or null
//   state()     what is chosen so far, to come back to; null for nothing
//   decorate(articles)  what is chosen, on the answers
// and is made with what was chosen before: `state`, or the `answer` that is stored already.

class Pairwise {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.choice = answer?.choice ?? null;
  }

  keys() {
    const { ties, both_bad } = this.desk.round;
    const choices = [["a", "A", "A is better"], ties && ["t", "tie", "Equally good"],
      both_bad && ["n", "both_bad", "Neither is good"], ["b", "B", "B is better"]].filter(Boolean);
    return new Map(choices.map(([key, choice, label]) => [key, { label, run: () => this.choose(choice), choice }]));
  }

  choose(choice) {
    this.choice = choice;
    this.desk.rate({ choice });
  }

  controls() {
    return [...this.keys()].map(([key, { label, choice }]) => keyButton(this.desk, key, label, {
      kind: choice === "A" || choice === "B" ? "choice" : "choice between", pressed: this.choice === choice,
    }));
  }

  beside() { return null; }

  state() { return null; }

  decorate(articles) {
    articles.forEach((article, place) => article.classList.toggle("chosen", this.choice === letter(place)));
  }

  swiped(direction) { this.desk.press(direction === "left" ? "a" : "b"); }
}

class Rank {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.groups = state?.groups ?? groupsOf(answer?.ranks ?? []); // places of answers, best first, ties together
    this.ties = false; // the next one with the last group
  }

  get placed() { return this.groups.flat(); }

  get count() { return this.desk.task.answers.length; }

  keys() {
    const keys = new Map();
    for (let place = 0; place < this.count; place += 1) {
      keys.set(letter(place).toLowerCase(), { label: `${letter(place)} comes next`, run: () => this.place(place) });
      keys.set(String(place + 1), { run: () => this.place(place) });
    }
    keys.set("=", { label: "The next one ties with the one before", run: () => this.tie() });
    keys.set("backspace", { label: "Take the last one back", run: () => this.takeBack() });
    keys.set("enter", { label: "Send the order", run: () => this.send() });
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
    if (left > 0) this.desk.say(`${plural(left, "answer")} ${left === 1 ? "has" : "have"} no rank yet.`, "warn");
    else this.desk.rate({ ranks: ranksOf(this.groups, this.count) });
  }

  controls() {
    const order = this.groups.flatMap((group, index) => [
      element("span", { class: "place" }, `${index + 1}.`), element("strong", {}, group.map(letter).join(" = ")),
    ]);
    const strip = element("div", { class: "strip", "aria-live": "polite" },
      order.length ? order : element("span", { class: "hint" }, "Best first: press a letter, or tap it"),
      this.ties && element("span", { class: "hint" }, "= …"));
    const letters = Array.from({ length: this.count }, (_, place) => keyButton(this.desk, letter(place).toLowerCase(),
      `Answer ${letter(place)}`, { kind: "choice letter-choice", disabled: this.placed.includes(place) }));
    return [strip, element("div", { class: "row" }, letters), element("div", { class: "row" },
      keyButton(this.desk, "=", "Tie", { pressed: this.ties }), keyButton(this.desk, "backspace", "Take back"),
      keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: this.placed.length < this.count }))];
  }

  beside() { return null; }

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
    this.focus = Math.max(0, this.criteria.findIndex(({ name }) => !(name in this.scores)));
  }

  get criteria() { return this.desk.round.criteria; }

  get left() { return this.criteria.filter(({ name }) => !(name in this.scores)).length; }

  keys() {
    const keys = new Map();
    for (let score = 1; score <= 5; score += 1) {
      const label = { 1: "Worst on the criterion in focus", 5: "Best on the criterion in focus" }[score] ?? "Between";
      keys.set(String(score), { label, run: () => this.give(this.focus, score) });
      this.criteria.forEach((_, index) => keys.set(`${index}:${score}`, { run: () => this.give(index, score) }));
    }
    keys.set("arrowleft", { label: "The criterion before", run: () => this.move(this.focus - 1) });
    keys.set("arrowright", { label: "The next criterion", run: () => this.move(this.focus + 1) });
    keys.set("enter", { label: "Send the scores", run: () => this.send() });
    this.criteria.forEach((_, index) => keys.set(`criterion ${index}`, { run: () => this.move(index) }));
    return keys;
  }

  give(index, score) {
    this.scores[this.criteria[index].name] = score;
    const next = [...this.criteria.keys()].find((other) => other > index && !(this.criteria[other].name in this.scores));
    const first = [...this.criteria.keys()].find((other) => !(this.criteria[other].name in this.scores));
    this.move(next ?? first ?? Math.min(index + 1, this.criteria.length - 1));
  }

  move(index) {
    this.focus = Math.max(0, Math.min(this.criteria.length - 1, index));
    this.desk.changed();
    this.panel.querySelector(".criterion.focus")?.scrollIntoView({ block: "nearest" });
  }

  send() {
    if (this.left > 0) this.desk.say(`${plural(this.left, "criterion").replace("criterions", "criteria")} without a score yet.`, "warn");
    else this.desk.rate({ scores: this.scores });
  }

  controls() {
    const given = this.criteria.length - this.left;
    return [element("span", { class: "hint" }, `${given} of ${this.criteria.length} scored`),
      keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: this.left > 0 })];
  }

  beside() {
    this.panel = element("div", { class: "criteria", "aria-label": "Criteria" });
    return this.panel;
  }

  state() { return Object.keys(this.scores).length ? { scores: this.scores } : null; }

  decorate() {
    this.panel.replaceChildren(...this.criteria.map((criterion, index) => this.criterion(criterion, index)));
  }

  criterion({ name, question, anchors }, index) {
    const score = this.scores[name];
    const open = index === this.focus;
    const head = element("button", { type: "button", class: "criterion-head", "aria-expanded": String(open),
      "data-key": `criterion ${index}`, onclick: () => this.desk.press(`criterion ${index}`) },
      element("strong", { dir: "auto" }, name), element("span", { class: "score" }, score ? `${score} of 5` : "no score"));
    const points = anchors.map((anchor, point) => element("button", { type: "button", class: "point", role: "radio",
      "aria-checked": String(score === point + 1), "data-key": `${index}:${point + 1}`,
      onclick: () => this.desk.press(`${index}:${point + 1}`) }, keyCap(String(point + 1)), element("span", { dir: "auto" }, anchor)));
    return element("section", { class: `criterion${open ? " focus" : ""}` }, head,
      open && element("p", { class: "question", dir: "auto" }, question),
      open && element("div", { class: "points", role: "radiogroup", "aria-label": name }, points));
  }
}

class PassFail {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.passed = state?.passed ?? answer?.passed ?? null;
    this.reasons = new Set(state?.reasons ?? answer?.reasons ?? []);
  }

  keys() {
    const keys = new Map([
      ["p", { label: "Pass", run: () => this.decide(true) }], ["f", { label: "Fail", run: () => this.decide(false) }],
    ]);
    this.desk.round.reasons.slice(0, 9).forEach((reason, index) => {
      keys.set(String(index + 1), { label: `Reason: ${reason}`, run: () => this.toggle(reason) });
    });
    this.desk.round.reasons.slice(9).forEach((reason, index) => {
      keys.set(`reason ${index + 10}`, { run: () => this.toggle(reason) });
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
    if (this.passed === null) this.desk.say("Press P for pass or F for fail first.", "warn");
    else this.desk.rate({ passed: this.passed, reasons: this.desk.round.reasons.filter((reason) => this.reasons.has(reason)) });
  }

  controls() {
    const reasons = this.desk.round.reasons.map((reason, index) => keyButton(this.desk,
      index < 9 ? String(index + 1) : `reason ${index + 1}`, reason, { kind: "chip", pressed: this.reasons.has(reason) }));
    return [
      element("div", { class: "row" },
        keyButton(this.desk, "p", "Pass", { kind: "choice", pressed: this.passed === true }),
        keyButton(this.desk, "f", "Fail", { kind: "choice", pressed: this.passed === false }),
        keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: this.passed === null })),
      reasons.length > 0 && element("div", { class: "row reasons", role: "group", "aria-label": "Reasons" }, reasons),
    ];
  }

  beside() { return null; }

  state() {
    return this.passed === null && this.reasons.size === 0 ? null : { passed: this.passed, reasons: [...this.reasons] };
  }

  decorate() {}
}

const DIFF_AFTER = 120; // ms without a key until the difference is drawn anew

class Correction {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.text = state?.text ?? answer?.text ?? this.original;
  }

  get original() { return this.desk.task.answers[0] ?? ""; }

  keys() {
    return new Map([
      ["e", { label: "Edit the text (Esc leaves it)", field: true, run: () => this.field.focus() }],
      ["ctrl+enter", { label: "Send the better text", run: () => this.send(false) }],
      ["ctrl+shift+enter", { label: "It is fine as it is", run: () => this.send(true) }],
    ]);
  }

  send(asItIs) {
    if (asItIs) this.text = this.field.value = this.original;
    else if (this.text === this.original) {
      this.desk.say("Nothing changed. Press Ctrl Shift Enter, or “Fine as it is”, if it needs no change.", "warn");
      return;
    } else if (this.text.trim() === "") {
      this.desk.say("The text is empty. Write a better answer, or skip this one.", "warn");
      return;
    }
    this.editing = this.desk.root.getRootNode().activeElement === this.field;
    this.desk.rate({ text: this.text });
  }

  controls() {
    return [keyButton(this.desk, "e", "Edit", { icon: "edit" }),
      keyButton(this.desk, "ctrl+shift+enter", "Fine as it is", { disabled: this.text !== this.original }),
      keyButton(this.desk, "ctrl+enter", "Send", { kind: "primary", disabled: this.text === this.original })];
  }

  beside() {
    this.field = element("textarea", { "data-desk": "text", "aria-label": "Better answer", dir: "auto", spellcheck: "true" });
    this.field.value = this.text;
    this.field.addEventListener("input", () => {
      const wasSame = this.text === this.original;
      this.text = this.field.value;
      clearTimeout(this.pending);
      this.pending = setTimeout(() => this.compare(), DIFF_AFTER);
      if (wasSame !== (this.text === this.original)) this.desk.showBar();
      this.desk.keepDraft();
    });
    this.difference = element("div", { class: "body difference", tabindex: "0", dir: "auto", "aria-label": "What changes" });
    this.compare();
    return element("div", { class: "editor" },
      element("section", { class: "answer" }, element("header", { class: "head" }, "Better answer"), this.field),
      element("section", { class: "answer" }, element("header", { class: "head" }, "What changes"), this.difference));
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

const PROTOCOLS = { pairwise: Pairwise, rank: Rank, rubric: Rubric, pass_fail: PassFail, correction: Correction };

const SKIP_REASONS = ["I can't tell", "I don't know the subject", "Something is broken"];

// In place of a protocol's buttons while it is asked why a task is skipped.
class Skipping {
  constructor(desk) {
    this.desk = desk;
  }

  keys() {
    const keys = new Map(SKIP_REASONS.map((reason, index) => [String(index + 1), { label: reason, run: () => this.skip(reason) }]));
    keys.set(String(SKIP_REASONS.length + 1), { label: "Another reason", field: true, run: () => this.write() });
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
    const buttons = [...this.keys()].map(([key, { label }]) => keyButton(this.desk, key, label, { kind: "chip" }));
    return [element("strong", {}, "Why skip it?"), element("div", { class: "row" }, buttons), this.field];
  }

  written() {
    const reason = this.field.value.trim();
    if (reason) this.skip(reason);
    else this.desk.say("Write a reason, or press Esc.", "warn");
  }
}
