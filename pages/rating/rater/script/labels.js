// Giving a text a label: of few labels a key each, of many a field that finds them; or none of them fits.
// It is one of the protocols of protocols.js, and has what they have.

const KEYED_LABELS = 9; // at most so many have a key
const NONE_KEY = "0";

class Label {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.label = answer?.label; // undefined: not given yet; null: none of them fits
    this.note = state?.note ?? answer?.note ?? "";
    this.noting = Boolean(state?.noting);
    this.query = state?.query ?? "";
    this.active = 0; // place in what is found
  }

  get labels() { return this.desk.round.labels; }

  get isKeyed() { return this.labels.length <= KEYED_LABELS; }

  get isNone() { return this.label === null; }

  isGiven(label) { return this.label === label; }

  keys() {
    const keys = new Map();
    if (this.noting) keys.set("enter", { label: "Submit: none of these fits", run: () => this.sendNone() });
    else if (this.isKeyed) {
      this.labels.forEach((label, index) =>
        keys.set(String(index + 1), { label, run: () => this.choose(label) }));
    } else keys.set("/", { label: "Find a label (Esc to leave the field)", field: true, run: () => this.find() });
    this.labels.forEach((label, index) => keys.set(`label ${index}`, { run: () => this.choose(label) }));
    keys.set(NONE_KEY, { label: "None of these, with a note", field: true, run: () => this.startNote() });
    return keys;
  }

  choose(label) {
    this.desk.rate({ label, note: "" });
  }

  startNote() {
    this.noting = true;
    this.desk.changed();
    this.noteField.focus();
  }

  stopNote() {
    this.noting = false;
    this.desk.changed();
    this.begin();
  }

  sendNone() {
    this.desk.rate({ label: null, note: this.noteField.value.trim() });
  }

  // ---- the field that finds labels ----

  // Labels that have all words that are looked for, those that begin with the first of them first.
  get found() {
    const words = this.query.toLowerCase().split(/[\s_-]+/).filter(Boolean);
    const folded = (label) => label.toLowerCase().replace(/[_-]+/g, " ");
    const fits = this.labels.filter((label) => words.every((word) => folded(label).includes(word)));
    const rank = (label) => (words.length && folded(label).startsWith(words[0]) ? 0 : 1);
    return fits.sort((one, other) => rank(one) - rank(other));
  }

  find() {
    this.searchField.focus();
  }

  move(by) {
    const count = this.found.length;
    if (count) this.active = (this.active + by + count) % count;
    this.list();
    this.panel.querySelector(".active")?.scrollIntoView({ block: "nearest" });
  }

  // Enter in the field: what is marked, once somebody looked for it.
  take() {
    const label = this.found[this.active];
    if (label === undefined) {
      this.desk.say("No matching label. Press Esc, then 0, if none fits.", "warn");
    } else if (this.query.trim() === "" && this.active === 0) {
      this.desk.say("Type a part of the label first.", "warn");
    } else this.desk.press(`label ${this.labels.indexOf(label)}`);
  }

  // A key in one of the two fields; whether it means something there.
  inField(field, key) {
    if (field === "note" && key === "enter") this.desk.press("enter");
    else if (field === "note" && key === "escape") this.stopNote();
    else if (field === "label" && key === "enter") this.take();
    else if (field === "label" && key === "arrowdown") this.move(1);
    else if (field === "label" && key === "arrowup") this.move(-1);
    else if (field === "label" && key === "escape") this.searchField.blur();
    else return false;
    return true;
  }

  // Where there is a keyboard, one types at once.
  begin() {
    if (!this.searchField || this.noting || this.desk.review >= 0) return;
    if (matchMedia("(pointer: fine)").matches) this.searchField.focus({ preventScroll: true });
  }

  // ---- what is shown ----

  controls() {
    if (this.noting) {
      this.noteField = element("input", { type: "text", "data-desk": "note", maxlength: "500", dir: "auto",
        "aria-label": "What would fit", placeholder: "What would fit? (optional)" });
      this.noteField.value = this.note;
      this.noteField.addEventListener("input", () => {
        this.note = this.noteField.value;
        this.desk.keepDraft();
      });
      return [element("strong", {}, "None of these"), this.noteField,
        plainButton("Back", () => this.stopNote(), keyCap("escape")),
        keyButton(this.desk, "enter", "Send", { kind: "primary" })];
    }
    const none = keyButton(this.desk, NONE_KEY, "None of these", { kind: "chip", pressed: this.isNone });
    if (!this.isKeyed) return [element("span", { class: "hint for-keys" }, this.hint()), none];
    const buttons = this.labels.map((label, index) => keyButton(this.desk, String(index + 1), label,
      { kind: "choice one-label", pressed: this.isGiven(label) }));
    return [element("div", { class: "row labels", role: "group", "aria-label": "Labels" }, buttons), none];
  }

  hint() {
    if (this.label) return `Now: ${this.label}`;
    return `${plural(this.labels.length, "label")}: type, ↓ and ↑, Enter`;
  }

  buildSide() {
    if (this.isKeyed) return null;
    this.searchField = element("input", { type: "text", "data-desk": "label", dir: "auto", role: "combobox",
      autocomplete: "off", spellcheck: "false", "aria-expanded": "true", "aria-label": "Find a label",
      placeholder: "Find a label" });
    this.searchField.value = this.query;
    this.searchField.addEventListener("input", () => {
      this.query = this.searchField.value;
      this.active = 0;
      this.list();
      this.desk.keepDraft();
    });
    this.options = element("div", { class: "options", role: "listbox", "aria-label": "Labels" });
    this.panel = element("div", { class: "finder" }, this.searchField, this.options);
    this.list();
    return this.panel;
  }

  list() {
    const rows = this.found.map((label, place) => element("button", {
      type: "button", class: `option${place === this.active ? " active" : ""}`, role: "option", dir: "auto",
      "aria-selected": String(place === this.active), "aria-pressed": String(this.isGiven(label)),
      "data-key": `label ${this.labels.indexOf(label)}`, tabindex: "-1",
      onclick: () => this.desk.press(`label ${this.labels.indexOf(label)}`),
    }, label));
    this.options.replaceChildren(...(rows.length ? rows
      : [element("p", { class: "hint" }, "No matching label.")]));
  }

  state() {
    if (this.noting) return { noting: true, note: this.note };
    return this.query ? { query: this.query } : null;
  }

  decorate() {}
}
