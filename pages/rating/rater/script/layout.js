// The parts around the answers: how far one is, which answer a phone shows, the tools below.

function topView(desk, open) {
  const { done, total } = desk.progress;
  const text = element("span", { class: "progress-text" }, whereText(desk));
  const meter = total ? meterView(done, total) : element("span", { class: "gap" });
  const line = element("div", { class: "line" }, text, meter);
  if (desk.round.instruction.trim() !== "") {
    line.append(keyButton(desk, "i", "Instruction", { kind: "quiet", icon: "menu_book", pressed: open }));
  }
  line.append(keyButton(desk, "?", "Keys", { kind: "quiet for-keys", icon: "keyboard" }));
  if (!open) return [line];
  const attributes = { class: "instruction", tabindex: "0", role: "region", "aria-label": "Instruction" };
  const instruction = element("div", { class: "text" }, renderMarkdown(desk.round.instruction));
  return [line, element("div", attributes, instruction)];
}

function meterView(done, total) {
  const fill = element("div");
  fill.style.width = `${Math.min(1, done / total) * 100}%`;
  return element("div", { class: "meter", role: "progressbar", "aria-label": "Rated", "aria-valuemin": "0",
    "aria-valuemax": String(total), "aria-valuenow": String(done) }, fill);
}

function progressText({ done, total, seconds_each: pace }) {
  if (total === null) return plural(done, "rating");
  const count = `${done.toLocaleString("en")} of ${total.toLocaleString("en")}`;
  if (pace === null || done >= total) return count;
  return `${count} · ${timeText(((total - done) * pace) / 60)} left`;
}

function timeText(minutes) {
  if (minutes < 1) return "less than a minute";
  return minutes < 90 ? `about ${Math.round(minutes)} min` : `about ${Math.round(minutes / 60)} h`;
}

function whereText({ review, history, progress }) {
  if (review < 0) return progressText(progress);
  return history[review].answer?.skipped ? "Back at one that you skipped" : "Back at one that you rated";
}

// On a phone the answers lie side by side, a swipe apart: these lead to each.
function tabsView(articles, answers) {
  const lead = (article) => () => article.scrollIntoView({ block: "nearest", inline: "start" });
  const tabs = articles.map((article, place) => element("button",
    { type: "button", class: "tab", "aria-pressed": String(place === 0), onclick: lead(article) },
    `Answer ${letter(place)}`));
  answers.addEventListener("scroll", () => {
    const inView = Math.round(Math.abs(answers.scrollLeft) / Math.max(1, answers.clientWidth));
    tabs.forEach((tab, place) => tab.setAttribute("aria-pressed", String(place === inView)));
  }, { passive: true });
  return element("div", { class: "tabs", role: "group", "aria-label": "Which answer is in view" }, tabs);
}

function toolsView(desk) {
  const tool = (key, label, icon, pressed = null, disabled = false) =>
    keyButton(desk, key, label, { kind: "tool", icon, pressed, disabled });
  const isFirst = desk.review === 0 || desk.history.length === 0;
  return element("div", { class: "tools" }, [
    tool("u", "Undo", "undo", null, isFirst),
    desk.review >= 0 ? tool("escape", "Go on without change", "redo") : tool("s", "Skip", "skip_next"),
    tool("m", "Comment", "comment"),
    desk.comparable() && tool("d", "Differences", "difference", desk.view.marked),
    desk.articles.length > 1 && tool("l", "Scroll together", "sync_alt", desk.view.linked),
    tool("x", "Plain text", "match_case", desk.view.plain),
  ]);
}

// A sentence in place of work.
function sentenceView(icon, text, act, label) {
  return element("div", { class: "sentence", role: "status" }, symbol(icon), element("p", {}, text),
    act && plainButton(label, act));
}
