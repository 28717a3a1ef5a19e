// What is judged: the conversation that is answered, and the answers.

const ROLES = { user: "Prompt", assistant: "Earlier answer", system: "System", tool: "Result" };
const FOLDED_FROM = 700; // characters or 8 lines of a conversation, beyond which it is folded

// The elements of a task, as `view` has them.
function taskView(desk, task, view) {
  return { prompt: promptView(desk, task, view), articles: answersView(desk, task, view) };
}

function promptView(desk, task, view) {
  const length = task.prompt.reduce((sum, turn) => sum + turn.content.length, 0);
  const lines = task.prompt.reduce((sum, turn) => sum + turn.content.split("\n").length + 1, 0);
  const { protocol, subject } = desk.round;
  const isJudged = protocol === "label" || (protocol === "free_text" && subject === "prompt"); // shown whole
  const foldable = !isJudged && (length > FOLDED_FROM || lines > 9);
  const folded = foldable && !view.prompt;
  const last = task.prompt.at(-1)?.content ?? "";
  const isCut = last.length > FOLDED_FROM / 2 || last.split("\n").length > 4;
  const kinds = ["prompt", folded && "folded", folded && isCut && "cut", view.prompt && "whole"];
  const section = element("section",
    { class: kinds.filter(Boolean).join(" "), "aria-label": "Conversation" });
  const turns = element("div", { class: "turns", tabindex: isJudged || (foldable && !folded) ? "0" : null });
  for (const turn of folded ? task.prompt.slice(-1) : task.prompt) { // the last turn is what is answered
    turns.append(element("div", { class: `turn ${turn.role === "user" ? "asked" : ""}` },
      element("span", { class: "role" }, roleName(turn.role, isJudged)),
      textView(view, turn.content, "(empty)")));
  }
  section.append(turns);
  if (task.reference !== null && task.reference !== undefined) {
    section.append(element("details", { class: "reference" }, element("summary", {}, "Reference answer"),
      textView(view, task.reference, "(empty reference)")));
  }
  const all = task.prompt.length > 1 ? `Show all ${task.prompt.length} turns` : "Show all";
  const label = view.prompt ? [element("span", { class: "wide" }, "Show less"), backLabel()] : all;
  section.append(keyButton(desk, "o", label, { kind: `quiet small${foldable ? "" : " if-cut"}` }));
  return section;
}

function roleName(role, isJudged) {
  return isJudged && role === "user" ? "Text" : ROLES[role] ?? role;
}

// A text as Markdown or, on demand, as it is.
function textView(view, text, empty) {
  if (text.trim() === "") return element("div", { class: "text" }, element("p", { class: "empty" }, empty));
  return view.plain ? element("div", { class: "text" }, renderPlain(text)) : textElement(text);
}

function answersView(desk, task, view) {
  const alone = task.answers.length === 1;
  return task.answers.map((text, place) => {
    const name = alone ? "Answer" : `Answer ${letter(place)}`;
    const body = element("div", { class: "body", tabindex: "0", role: "region", "aria-label": name },
      textView(view, text, "(empty answer)"));
    const head = element("header", { class: "head" },
      element("span", { class: "letter" }, alone ? "Answer" : letter(place)),
      element("span", { class: "badge" }), element("span", { class: "size" }, sizeText(text)),
      keyButton(desk, "w", [element("span", { class: "part" }, "Whole answer"), backLabel()],
        { kind: "quiet small if-cut" }));
    return element("article", { class: "answer", "aria-label": name, "data-place": place }, head, body);
  });
}

// Of a button that leads back from a text that has the whole desk, as it has on a phone.
function backLabel() {
  return element("span", { class: "back" }, "Back to rating");
}

// Which texts have more than is in view: they have a button that leads to the whole of it.
function markCut(work) {
  for (const text of work.querySelectorAll(".turns, .answer > .body")) {
    text.parentElement.classList.toggle("is-cut", room(text) > 1);
  }
}

const SIGNS = new RegExp(SIGN, "u"); // there is nothing like a word to count

function sizeText(text) {
  if (SIGNS.test(text)) return plural(text.replace(/\s/g, "").length, "character");
  return plural(text.match(/\S+/g)?.length ?? 0, "word");
}
