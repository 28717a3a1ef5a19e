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

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
