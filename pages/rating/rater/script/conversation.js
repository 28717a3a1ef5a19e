// What is judged: the conversation that is answered, and the answers.

const ROLES = { user: "Prompt", assistant: "Earlier answer", system: "System", tool: "Result" };
const FOLDED_FROM = 700; // characters or 8 lines of a conversation, beyond which it is folded

function promptView(desk, task) {
  const length = task.prompt.reduce((sum, turn) => sum + turn.content.length, 0);
  const lines = task.prompt.reduce((sum, turn) => sum + turn.content.split("\n").length + 1, 0);
  const { protocol, subject } = desk.round;
  const isJudged = protocol === "label" || (protocol === "free_text" && subject === "prompt"); // shown whole
  const foldable = !isJudged && (length > FOLDED_FROM || lines > 9);
  const folded = foldable && !desk.view.prompt;
  const last = task.prompt.at(-1)?.content ?? "";
  const isCut = last.length > FOLDED_FROM / 2 || last.split("\n").length > 4;
  const kind = `prompt${folded ? " folded" : ""}${folded && isCut ? " cut" : ""}`;
  const section = element("section", { class: kind, "aria-label": "Conversation" });
  const turns = element("div", { class: "turns", tabindex: isJudged || (foldable && !folded) ? "0" : null });
  for (const turn of folded ? task.prompt.slice(-1) : task.prompt) { // the last turn is what is answered
    turns.append(element("div", { class: `turn ${turn.role === "user" ? "asked" : ""}` },
      element("span", { class: "role" }, roleName(turn.role, isJudged)),
      textView(desk, turn.content, "(empty)")));
  }
  section.append(turns);
  if (task.reference !== null && task.reference !== undefined) {
    section.append(element("details", { class: "reference" }, element("summary", {}, "Reference answer"),
      textView(desk, task.reference, "(empty reference)")));
  }
  const all = task.prompt.length > 1 ? `Show all ${task.prompt.length} turns` : "Show all";
  if (foldable) section.append(keyButton(desk, "o", folded ? all : "Show less", { kind: "quiet small" }));
  return section;
}

function roleName(role, isJudged) {
  return isJudged && role === "user" ? "Text" : ROLES[role] ?? role;
}

// A text as Markdown or, on demand, as it is.
function textView(desk, text, empty) {
  if (text.trim() === "") return element("div", { class: "text" }, element("p", { class: "empty" }, empty));
  return desk.view.plain ? element("div", { class: "text" }, renderPlain(text)) : textElement(text);
}

function answersView(desk, task) {
  const alone = task.answers.length === 1;
  return task.answers.map((text, place) => {
    const name = alone ? "Answer" : `Answer ${letter(place)}`;
    const body = element("div", { class: "body", tabindex: "0", role: "region", "aria-label": name },
      textView(desk, text, "(empty answer)"));
    const head = element("header", { class: "head" },
      element("span", { class: "letter" }, alone ? "Answer" : letter(place)),
      element("span", { class: "badge" }), element("span", { class: "size" }, sizeText(text)));
    return element("article", { class: "answer", "aria-label": name, "data-place": place }, head, body);
  });
}

const SIGNS = new RegExp(SIGN, "u"); // there is nothing like a word to count

function sizeText(text) {
  if (SIGNS.test(text)) return plural(text.replace(/\s/g, "").length, "character");
  return plural(text.match(/\S+/g)?.length ?? 0, "word");
}
