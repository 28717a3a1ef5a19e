// Keys: which are meant for the desk, what each does now, and the sheet that lists them.

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

// A key that comes down so soon after it went up was never let go: a worn switch bounces for up to 20 ms, and
// a remote desktop repeats a key that is held as pairs of down and up. Fingers take 40 ms and more.
const BOUNCE = 25; // ms

class Keyboard {
  constructor(desk) {
    this.desk = desk;
    this.releases = new Map(); // by code of the key, when it last went up
    this.sheet = null;
  }

  // ---- what a key does ----

  // By name of the key: `run`; `label` for the sheet; `now` where it only changes the view, and `field` where
  // it only leads to a field: all else counts once the task is seen.
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
      ["u", { label: "Undo: go back to the previous item", run: () => desk.undo() }],
      ["s", { label: "Skip, with a reason", run: () => desk.skip() }],
      ["m", { label: "Comment (Esc to leave the field)", field: true, run: () => desk.comment.open() }],
      ...(desk.comparable() ? [toggle("d", "Highlight differences", "marked")] : []),
      ...[...SCROLLS].map(([key, by]) => scroll(key, by > 0 ? "Scroll down" : "Scroll up", () => by)),
      scroll(" ", "Page down", page), scroll("shift+ ", "Page up", () => -page()),
      toggle("l", "Sync scrolling", "linked"), toggle("x", "Plain text", "plain"),
      toggle("o", "Full prompt", "prompt"), toggle("w", "Full answers", "answers"),
      view("i", "Instruction", () => desk.toggleInstruction()),
      view("?", "Show keyboard shortcuts", () => this.openSheet()),
      ...(desk.review >= 0 ? [view("escape", "Continue without changes", () => desk.goOn())] : []),
    ]);
  }

  // ---- from the browser ----

  onKey(event) {
    const { root } = this.desk;
    if (!root.isConnected || event.defaultPrevented || root.checkVisibility?.() === false) return;
    const key = keyOf(event, root);
    const isOwnButton = event.composedPath()[0].tagName === "BUTTON" && event.composedPath().includes(root);
    if (event.repeat && isOwnButton) event.preventDefault(); // it would click
    if (!key || (this.isHeld(event) && !MAY_REPEAT.has(key))) return;
    const field = event.composedPath()[0].dataset?.desk;
    const taken = field ? this.inField(field, key, event.composedPath()[0])
      : this.sheet ? this.inSheet(key) : this.press(key);
    if (!taken) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // what we take is not a shortcut of the app as well
  }

  onRelease(event) {
    this.releases.set(event.code, event.timeStamp);
  }

  isHeld(event) {
    return event.repeat || event.timeStamp - (this.releases.get(event.code) ?? -Infinity) < BOUNCE;
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

  // Do what a key or its button asks for, if it can be meant for what is on the desk. Returns whether it
  // means something here.
  press(key) {
    const action = this.table().get(key);
    if (action && (action.now || action.field || this.desk.isSeen())) action.run();
    return action !== undefined;
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
    this.desk.clock.look(); // what it covered comes into view
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
