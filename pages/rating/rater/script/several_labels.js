// Giving a text any number of labels: a key takes or leaves one, Enter sends them. Of many labels the field
// that finds them takes one with Enter, and sends them where nothing is looked for.

class SeveralLabels extends Label {
  constructor(desk, state, answer) {
    super(desk, state, answer);
    this.given = new Set(state?.labels ?? answer?.labels ?? []);
    this.isNoneSent = answer?.labels?.length === 0;
  }

  get chosen() { return this.labels.filter((label) => this.given.has(label)); } // in the round's order

  get isNone() { return this.isNoneSent && this.given.size === 0; }

  isGiven(label) { return this.given.has(label); }

  keys() {
    const keys = super.keys();
    if (!this.noting) keys.set("enter", { label: "Send the labels", run: () => this.send() });
    return keys;
  }

  choose(label) {
    if (!this.given.delete(label)) this.given.add(label);
    this.desk.changed();
    if (!this.searchField) return;
    this.searchField.value = this.query = ""; // the next one is searched for again
    this.active = 0;
    this.list();
  }

  send() {
    if (this.given.size === 0) this.desk.say("Choose a label first, or press 0 if none fits.", "warn");
    else this.desk.rate({ labels: this.chosen, note: "" });
  }

  sendNone() {
    this.note = this.noteField.value.trim();
    this.given.clear();
    this.desk.rate({ labels: [], note: this.note });
  }

  take() {
    if (this.query.trim() === "" && this.active === 0) this.desk.press("enter");
    else super.take();
  }

  controls() {
    const controls = super.controls();
    if (this.noting) return controls;
    const isEmpty = this.given.size === 0;
    return [...controls, keyButton(this.desk, "enter", "Send", { kind: "primary", disabled: isEmpty })];
  }

  hint() {
    if (this.given.size) return `Now: ${this.chosen.join(", ")}`;
    const enter = "Enter takes one and, with nothing typed, sends";
    return `${plural(this.labels.length, "label")}: type, ↓ and ↑, ${enter}`;
  }

  state() {
    if (!this.noting && this.given.size === 0) return super.state();
    return { ...super.state(), labels: this.chosen };
  }
}
