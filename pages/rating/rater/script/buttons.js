// Buttons, and the keys that do the same.

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
