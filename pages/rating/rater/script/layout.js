// The parts around the answers: how far one is, which answer a phone shows, the tools below.

function deskParts() {
  const heard = { role: "status", "aria-live": "polite" };
  const notice = element("div", { class: "notice", ...heard });
  const delivery = element("div", { class: "delivery", ...heard });
  const bar = element("div", { class: "bar", role: "group", "aria-label": "Rating" });
  const commentField = element("textarea", { class: "comment", rows: "1", maxlength: "4000", dir: "auto",
    "data-desk": "comment", placeholder: "Comment (Esc to leave the field)", "aria-label": "Comment" });
  const notices = element("div", { class: "notices" }, notice, delivery);
  return {
    notice, delivery, bar, commentField,
    live: element("div", { class: "live", ...heard }), // stays, to be heard
    top: element("header", { class: "top" }), work: element("div", { class: "work" }),
    foot: element("footer", { class: "foot" }, notices, bar, commentField),
  };
}

function topView(desk, open) {
  const line = element("div", { class: "line" }, element("div", { class: "where" }, whereView(desk)));
  if (desk.round.instruction.trim() !== "") {
    line.append(keyButton(desk, "i", "Instruction", { kind: "quiet", icon: "menu_book", pressed: open }));
  }
  line.append(keyButton(desk, "?", "Keys", { kind: "quiet for-keys", icon: "keyboard" }));
  if (!open) return [line];
  const attributes = { class: "instruction", tabindex: "0", role: "region", "aria-label": "Instruction" };
  const instruction = element("div", { class: "text" }, renderMarkdown(desk.round.instruction));
  return [line, element("div", attributes, instruction)];
}

function whereView(desk) {
  const { done, total } = progressOf(desk);
  const text = element("span", { class: "progress-text" }, whereText(desk));
  return [text, total ? meterView(done, total) : element("span", { class: "gap" })];
}

// What waits to be stored is rated.
function progressOf({ progress, outbox }) {
  return { ...progress, done: progress.done + outbox.uncounted };
}

function meterView(done, total) {
  const fill = element("div");
  fill.style.width = `${Math.min(1, done / total) * 100}%`;
  return element("div", { class: "meter", role: "progressbar", "aria-label": "Rated", "aria-valuemin": "0",
    "aria-valuemax": String(total), "aria-valuenow": String(done) }, fill);
}

function progressText({ done, total, seconds_each: pace }) {
  if (total === null) return plural(done, "rating");
  const count = `${done.toLocaleString("en")} of ${total.toLocaleString("en")} rated`;
  if (pace === null || done >= total) return count;
  return `${count} · ${timeText(((total - done) * pace) / 60)} left`;
}

function timeText(minutes) {
  if (minutes < 1) return "less than a minute";
  return minutes < 90 ? `about ${Math.round(minutes)} min` : `about ${Math.round(minutes / 60)} h`;
}

function whereText(desk) {
  const entry = desk.history[desk.review];
  if (!entry) return progressText(progressOf(desk));
  if (desk.outbox.refusedOf(entry)) return "Previous item (not saved)";
  return entry.answer?.skipped ? "Previous item (skipped)" : "Previous item (rated)";
}

// What is not stored: why, and what can be done about it.
function deliveryView(desk) {
  const { refused, waiting, trouble, outlivesPage } = desk.outbox;
  const lines = [];
  const line = (kind, text, ...buttons) =>
    lines.push(element("div", { class: `notice ${kind}` }, element("span", {}, text), buttons));
  if (refused.length > 0) {
    const [{ rating, why }] = refused;
    const entry = desk.entryOf(rating.task);
    const count = `${refused.length} ratings were not stored. The first:`;
    const back = entry ? plainButton("Go back to it", () => desk.goBackTo(entry)) : null;
    line("warn", `${refused.length > 1 ? count : "A rating was not saved."} ${why}`, back,
      plainButton("Discard", () => desk.leaveRefused(rating.task)));
  }
  const count = plural(waiting.length, "rating");
  const open = outlivesPage ? "" : " Leave this page open: the browser keeps nothing.";
  if (trouble === null) line("", `Storing ${count}…`);
  else if (trouble && desk.task !== null) {
    line("warn", `${count} not stored yet: ${awayText(trouble)}${open}`, plainButton("Try now", tryNow));
  }
  return lines;
}

// On a phone the answers lie side by side, a swipe apart: these lead to each. `looked`: gets the places of
// those that come into view.
function tabsView(articles, answers, looked) {
  const lead = (article) => () => article.scrollIntoView({ block: "nearest", inline: "start" });
  const tabs = articles.map((article, place) => element("button",
    { type: "button", class: "tab", onclick: lead(article) }, `Answer ${letter(place)}`));
  const showPlace = () => {
    const inView = Math.round(Math.abs(answers.scrollLeft) / Math.max(1, answers.clientWidth));
    tabs.forEach((tab, place) => tab.setAttribute("aria-pressed", String(place === inView)));
    looked.add(inView);
  };
  showPlace();
  answers.addEventListener("scroll", showPlace, { passive: true });
  return element("div", { class: "tabs", role: "group", "aria-label": "Answer shown" }, tabs);
}

function toolsView(desk) {
  const tool = (key, label, icon, pressed = null, disabled = false) =>
    keyButton(desk, key, label, { kind: "tool", icon, pressed, disabled });
  const isFirst = desk.review === 0 || desk.history.length === 0;
  return element("div", { class: "tools" }, [
    tool("u", "Undo", "undo", null, isFirst),
    desk.review >= 0 ? tool("escape", "Continue without changes", "redo") : tool("s", "Skip", "skip_next"),
    tool("m", "Comment", "comment"),
    desk.comparable() && tool("d", "Differences", "difference", desk.view.marked),
    desk.articles.length > 1 && tool("l", "Sync scrolling", "sync_alt", desk.view.linked),
    tool("x", "Plain text", "match_case", desk.view.plain),
  ]);
}

const CLOSED = "This round is closed. Thank you: your ratings are counted.";
const ALL_RATED = "You rated all items. Thank you. The result appears once the round is closed; until then you can look "
  + "back and change.";

function othersText(done, total) {
  return "No items for you right now: other raters have the remaining ones. You have rated "
    + `${done.toLocaleString("en")} of ${total.toLocaleString("en")}. This page looks again by itself.`;
}

// A sentence in place of work.
function sentenceView(icon, text, act, label) {
  return element("div", { class: "sentence", role: "status" }, symbol(icon), element("p", {}, text),
    act && plainButton(label, act));
}
