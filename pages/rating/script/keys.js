// Which key is meant for the desk, and the sheet that lists them all.

const FIELDS = new Set(["INPUT", "TEXTAREA", "SELECT"]);
const SCROLLS = new Set(["arrowup", "arrowdown", "j", "k", " ", "shift+ "]);

// The name of a key as the desk's tables have it; "" where the key is not for us.
function keyOf(event, fieldKeys) {
  const target = event.composedPath()[0];
  const name = event.key.toLowerCase();
  if (event.isComposing || target.closest?.("[role=dialog]:not(.sheet)")) return "";
  if (FIELDS.has(target.tagName) || target.isContentEditable) {
    const combined = `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.shiftKey && name === "enter" ? "shift+" : ""}${name}`;
    return fieldKeys.has(combined) && target.hasAttribute("data-desk") ? combined : "";
  }
  if (event.ctrlKey || event.metaKey || event.altKey) {
    return name === "enter" && !event.altKey ? `ctrl+${event.shiftKey ? "shift+" : ""}enter` : "";
  }
  const clicks = target.tagName === "BUTTON" || target.tagName === "SUMMARY" || target.tagName === "A";
  if (clicks && (name === "enter" || name === " ")) return "";
  if (name === " " && event.shiftKey) return "shift+ ";
  return name;
}

function sheetView(desk, tables, close) {
  const rows = (table) => [...table].filter(([, action]) => action.label).map(([key, action]) =>
    element("tr", {}, element("td", {}, keyCap(key)), element("td", {}, action.label)));
  const content = tables.map(([title, table]) => element("section", {}, element("h3", {}, title),
    element("table", {}, element("tbody", {}, rows(table)))));
  const shut = element("button", { type: "button", class: "button", onclick: close }, "Close", keyCap("escape"));
  const sheet = element("div", { class: "sheet", role: "dialog", "aria-modal": "true", "aria-label": "Keys", tabindex: "-1" },
    element("h2", {}, "Keys"), element("div", { class: "columns" }, content), shut);
  return element("div", { class: "veil", onclick: (event) => { if (event.target === event.currentTarget) close(); } }, sheet);
}
