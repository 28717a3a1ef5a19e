// How elements are made. Data becomes text nodes and attributes by name; no text is ever parsed as HTML.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== false));
  // Last, as a browser looks for the direction of a text (dir="auto") anew with every child that comes.
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  return made;
}

// A symbol of the font that Streamlit brings; read by nobody.
function symbol(name) {
  return element("span", { class: "symbol", "aria-hidden": "true", translate: "no" }, name);
}

const KEY_NAMES = {
  " ": "Space", enter: "Enter", backspace: "⌫", escape: "Esc", "ctrl+enter": "Ctrl Enter",
  "ctrl+shift+enter": "Ctrl Shift Enter", "shift+ ": "Shift Space",
  arrowdown: "↓", arrowup: "↑", arrowleft: "←", arrowright: "→",
};

function keyName(key) {
  return KEY_NAMES[key] ?? key.toUpperCase();
}

function keyCap(key) {
  return element("kbd", { "aria-hidden": "true" }, keyName(key));
}

// A button that does what its key does.
function keyButton(desk, key, label, { kind = "", icon = "", pressed = null, disabled = false } = {}) {
  const attributes = {
    type: "button", class: `button ${kind}`, "data-key": key, disabled,
    "aria-keyshortcuts": keyName(key).replace(" ", "+"),
    "aria-pressed": pressed === null ? null : String(pressed),
    onclick: () => desk.press(key),
  };
  return element("button", attributes, icon && symbol(icon), element("span", {}, label), keyCap(key));
}

function plainButton(label, onclick, ...more) {
  return element("button", { type: "button", class: "button", onclick }, label, more);
}

function letter(place) {
  return String.fromCharCode(65 + place);
}

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
