// Keys: which are meant for the desk, what each does now, and the sheet that lists them.
//
// Keys pressed while a rating is being stored wait here in order, and none is lost. What is typed on the way
// to a field, after the key that leads there, ends up in the field.

const FIELDS = new Set(["INPUT", "TEXTAREA", "SELECT"]);
const FIELD_KEYS = new Set(["escape", "enter", "arrowdown", "arrowup", "shift+enter", "ctrl+enter",
  "ctrl+shift+enter"]);
const SCROLLS = new Map([["arrowdown", 90], ["arrowup", -90], ["j", 90], ["k", -90]]); // pixels
const MAY_REPEAT = new Set([...SCROLLS.keys(), " ", "shift+ "]);

// Parts of the page around that take keys themselves: all of them, or arrows alone.
const WIDGETS = "[role=dialog], [role=menu], [role=listbox], [role=combobox], [role=grid], [role=slider]";
const ARROW_WIDGETS = "[role=tablist], [role=radiogroup]";

// As it stands on the key: of a layout with other letters, or with digits behind Shift, by its place.
function nameOf({ key, code, shiftKey }) {
  if (/^Digit\d$/.test(code) && !shiftKey) return code.slice("Digit".length);
  const isOther = key.length === 1 && key > "~" && code.startsWith("Key");
  return (isOther ? code.slice("Key".length) : key).toLowerCase();
}

function isForWidget(event, root, name) {
  const target = event.composedPath()[0];
  if (event.composedPath().includes(root) || !target.closest) return false;
  return Boolean(target.closest(WIDGETS) ?? (name.startsWith("arrow") && target.closest(ARROW_WIDGETS)));
}

// The name of a key as the tables have it; "" where it is not for us.
function keyOf(event, root) {
  const target = event.composedPath()[0];
  const name = nameOf(event);
  if (event.isComposing || isForWidget(event, root, name)) return "";
  const isShifted = event.shiftKey && (name === "enter" || name === " "); // of letters it makes no other key
  const combined = `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${isShifted ? "shift+" : ""}${name}`;
  if (FIELDS.has(target.tagName) || target.isContentEditable) {
    return target.dataset.desk && FIELD_KEYS.has(combined) && !event.altKey ? combined : "";
  }
  const isModified = event.ctrlKey || event.metaKey || event.altKey;
  if (isModified && (name !== "enter" || event.altKey)) return "";
  const clicks = ["BUTTON", "SUMMARY", "A"].includes(target.tagName);
  return clicks && !isModified && (name === "enter" || name === " ") ? "" : combined;
}

class Keyboard {
  constructor(desk) {
    this.desk = desk;
    this.presses = []; // {key, character, field}: in the order in which they came
    this.sheet = null;
  }

  // ---- what a key does ----

  // By name of the key: `run`; `label` for the sheet; `now` where it need not wait; `field` where it leads
  // to one.
  table() {
    const { desk } = this;
    if (desk.task === null) {
      return new Map(desk.round?.state === "open" ? [["u", { run: () => desk.undo() }]] : []);
    }
    return new Map([...this.common(), ...(desk.skipping ?? desk.protocol).keys()]);
  }

  common() {
    const { desk } = this;
    const page = () => Math.max(...desk.bodies.map((body) => body.clientHeight)) * 0.85;
    const view = (key, label, run) => [key, { label, now: true, run }];
    const scroll = (key, label, pixels) => view(key, label, () => scrollTogether(desk.bodies, pixels()));
    const toggle = (key, label, name) => view(key, label, () => desk.toggle(name));
    return new Map([
      ["u", { label: "Undo: back to the one before", run: () => desk.undo() }],
      ["s", { label: "Skip, with a reason", run: () => desk.skip() }],
      ["m", { label: "Comment (Esc leaves it)", field: true, run: () => desk.openComment() }],
      ...(desk.comparable() ? [toggle("d", "Words that differ", "marked")] : []),
      ...[...SCROLLS].map(([key, by]) => scroll(key, by > 0 ? "Scroll down" : "Scroll up", () => by)),
      scroll(" ", "A page down", page), scroll("shift+ ", "A page up", () => -page()),
      toggle("l", "Scroll together by hand, too", "linked"), toggle("x", "Plain text", "plain"),
      toggle("o", "The whole prompt", "prompt"),
      view("i", "Instruction", () => desk.toggleInstruction()), view("?", "These keys", () => this.openSheet()),
      ...(desk.review >= 0 ? [["escape", { label: "Go on without change", run: () => desk.goOn() }]] : []),
    ]);
  }

  // ---- from the browser ----

  onKey(event) {
    const { root } = this.desk;
    if (!root.isConnected || event.defaultPrevented || root.checkVisibility?.() === false) return;
    const key = keyOf(event, root);
    if (!key || (event.repeat && !MAY_REPEAT.has(key))) return;
    const field = event.composedPath()[0].dataset?.desk;
    const taken = field ? this.inField(field, key, event.composedPath()[0])
      : this.sheet ? this.inSheet(key) : this.press(key, event.key);
    if (!taken) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // what we take is not a shortcut of the app as well
  }

  inField(field, key, element) {
    if (field === "text" && key.startsWith("ctrl+")) return this.press(key);
    if (field === "label" || field === "note") return this.desk.protocol.inField(field, key);
    if (field === "reason" && key === "enter") this.desk.skipping.written();
    else if (field === "reason" && key === "escape") this.desk.stopSkipping();
    else if (key === "escape" || (field === "comment" && key === "enter")) element.blur();
    else return false;
    return true;
  }

  inSheet(key) {
    if (key !== "escape" && key !== "?") return false;
    this.closeSheet();
    return true;
  }

  // Do what a key or its button asks for, at once or in its turn. Returns whether it means something here;
  // `character`: as it would stand in a field.
  press(key, character = "") {
    const { desk } = this;
    if (desk.busy && desk.task === null) return false;
    const action = this.table().get(key);
    const typed = character.length === 1 && this.presses.some((press) => press.field);
    const mayMeanMore = desk.busy && new Skipping(desk).keys().has(key); // once what waits before it is done
    if (!action && !typed && !mayMeanMore) return false;
    if (!desk.busy || (action?.now && !typed)) this.perform({ key });
    else if (!desk.waiting) this.presses.push({ key, character, field: action?.field });
    return true;
  }

  catchUp() {
    while (!this.desk.busy && this.presses.length) this.perform(this.presses.shift());
  }

  forget() {
    this.presses = [];
  }

  perform({ key }) {
    const action = this.table().get(key);
    action?.run();
    if (!action?.field || this.presses.length === 0) return;
    const field = this.desk.root.getRootNode().activeElement;
    const typed = this.presses.splice(0).map((press) => press.character).filter(({ length }) => length === 1);
    if (!field?.dataset.desk) return;
    field.setRangeText(typed.join(""), field.value.length, field.value.length, "end");
    field.dispatchEvent(new Event("input")); // as if typed there: what follows from the text does
  }

  // ---- the sheet ----

  openSheet() {
    const own = (this.desk.skipping ?? this.desk.protocol).keys();
    const common = new Map([...this.common()].filter(([key]) => !own.has(key)));
    this.sheet = sheetView([["This task", own], ["Everywhere", common]], () => this.closeSheet());
    this.sheet.addEventListener("close", () => this.closeSheet());
    this.desk.root.append(this.sheet);
    this.sheet.showModal();
  }

  closeSheet() {
    this.sheet?.remove();
    this.sheet = null;
  }
}

function sheetView(tables, close) {
  const sections = tables.map(([title, table]) => element("section", {}, element("h3", {}, title),
    element("table", {}, element("tbody", {}, [...keysByLabel(table)].map(([label, keys]) =>
      element("tr", {}, element("td", {}, keys.map(keyCap)), element("td", {}, label)))))));
  const sheet = element("dialog", { class: "sheet", "aria-label": "Keys" },
    element("h2", {}, "Keys"), element("div", { class: "columns" }, sections),
    plainButton("Close", close, keyCap("escape")));
  sheet.addEventListener("click", (event) => { if (event.target === sheet) close(); }); // beside it
  return sheet;
}

function keysByLabel(table) {
  const labels = new Map();
  for (const [key, { label }] of table) if (label) labels.set(label, [...(labels.get(label) ?? []), key]);
  return labels;
}
