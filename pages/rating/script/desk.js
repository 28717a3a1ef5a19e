// The desk: which task is shown, what a key does now, and what is stored before the next one is shown.
//
// While a rating is being stored, keys wait in `presses`, in order. Once it is said that storing takes long,
// they don't: nobody means to rate what they can't see.

const HOLDS = 20; // tasks
const LOOK_AGAIN = 15_000; // ms, while others hold what is left
const KEEP_DRAFT_AFTER = 250; // ms
const SCROLL_BY = { arrowdown: 90, arrowup: -90, j: 90, k: -90 };

class Desk {
  constructor(root, roundId) {
    Object.assign(this, { root, roundId, round: null, progress: null, tasks: [], history: [], review: -1 });
    this.presses = [];
    this.busy = this.waiting = true; // nothing can be rated yet
    this.drafts = new Map(); // by task: {state, comment}
    this.view = { plain: false, linked: false, instruction: false, prompt: false, marked: false };
    this.outbox = new Outbox(roundId);
    this.draftName = `tunebench-rating-draft:${roundId}`;
    this.leaving = new AbortController();
  }

  // ---- beginning and end ----

  async begin() {
    const options = { capture: true, signal: this.leaving.signal };
    window.addEventListener("keydown", (event) => this.onKey(event), options);
    window.addEventListener("resize", () => this.fit(), options);
    window.addEventListener("pagehide", () => this.writeDraft(), options);
    document.addEventListener("visibilitychange", () => this.tick(), options);
    this.build();
    this.screen("hourglass_empty", "One moment: your first tasks are on their way.");
    await this.sendLeftovers();
    const draft = readStorage(this.draftName);
    if (draft?.task) this.drafts.set(draft.task, draft);
    if (await this.fetchTasks()) this.showNext();
  }

  leave() {
    this.writeDraft();
    clearTimeout(this.lookAgain);
    this.leaving.abort();
  }

  build() {
    this.top = element("header", { class: "top" });
    this.work = element("div", { class: "work" });
    this.notice = element("div", { class: "notice", role: "status", "aria-live": "polite" });
    this.bar = element("div", { class: "bar", role: "toolbar", "aria-label": "Rating" });
    this.commentField = element("textarea", { class: "comment", rows: "1", maxlength: "4000", "data-desk": "comment",
      placeholder: "Comment (Esc leaves it)", "aria-label": "Comment", dir: "auto" });
    this.commentField.addEventListener("input", () => { this.sizeComment(); this.keepDraft(); });
    this.foot = element("footer", { class: "foot" }, this.notice, this.bar, this.commentField);
    this.root.replaceChildren(this.top, this.work, this.foot);
    takeSwipes(this.bar, (direction) => { if (!this.skipping) this.protocol?.swiped?.(direction); });
    this.fit();
  }

  // The desk takes what the page leaves of the window, so that answers scroll and the bar stays in reach.
  fit() {
    const outer = scroller(this.bar ?? this.root);
    const above = this.root.getBoundingClientRect().top + (outer?.scrollTop ?? 0);
    this.root.style.setProperty("--above", `${Math.round(above)}px`);
  }

  // ---- to and from the engine ----

  have(without) {
    return this.tasks.map((task) => task.task_id).filter((id) => id !== without);
  }

  send(rating, outlast = true) {
    const body = () => ({ round: this.roundId, ...rating, have: this.have(rating.task) });
    return insist("/rating/rate", body, this.leaving.signal, (answer) => this.notStored(answer), outlast);
  }

  notStored(answer) {
    this.waiting = true;
    const kept = this.outbox.outlivesPage === false ? " Leave this page open: the browser keeps nothing." : "";
    if (answer === null) this.say("Storing…");
    else if (isSignedOut(answer.status)) {
      this.say(`Not stored yet: you are signed out, or may not rate here. Sign in again; your rating is kept in this browser and sent then.${kept}`, "warn", true);
    } else if ([0, 502, 503, 504].includes(answer.status)) {
      this.say(`Not stored yet: the engine does not answer. Trying again…${kept}`, "warn", true);
    } else this.say(`Not stored yet: ${troubleText(answer)} Trying again…${kept}`, "warn", true);
  }

  // What an earlier visit could not send. What belongs to another person who used this browser stays for them.
  async sendLeftovers() {
    let foreign = 0;
    for (const rating of this.outbox.read()) {
      const answer = await this.send(rating, false);
      if (!answer) return;
      if (isSignedOut(answer.status)) foreign += 1;
      else this.outbox.remove(rating);
      if (answer.status !== 200 && !isSignedOut(answer.status)) this.atFirst = `A rating of your last visit could not be stored. ${troubleText(answer)}`;
      else if (answer.status === 200) this.atFirst = "A rating of your last visit is stored now.";
    }
    if (foreign) this.atFirst = `${plural(foreign, "rating")} of somebody else, or from before you were signed out, stays in this browser until they sign in here.`;
  }

  // More tasks and how the round stands; false where that could not be learned.
  async fetchTasks() {
    const body = () => ({ round: this.roundId, want: HOLDS, have: this.have() });
    const answer = await insist("/rating/next", body, this.leaving.signal, (trouble) => this.away(trouble));
    if (!answer) return false;
    if (answer.status !== 200) {
      this.screen("error", troubleText(answer), () => this.startOver());
      return false;
    }
    const { round, tasks, progress, last } = answer.document;
    Object.assign(this, { round, progress });
    if (this.history.length === 0) this.history = [...last].reverse();
    this.add(tasks);
    return true;
  }

  away(answer) {
    if (answer === null) return;
    const kept = this.outbox.read().length;
    const also = kept ? ` ${plural(kept, "rating")} kept in this browser will be sent.` : "";
    const text = isSignedOut(answer.status) ? "You are signed out, or may not rate here: sign in again."
      : [0, 502, 503, 504].includes(answer.status) ? "The engine does not answer. Trying again…"
        : `${troubleText(answer)} Trying again…`;
    this.screen("cloud_off", text + also, tryNow, "Try now");
  }

  add(tasks) {
    const held = new Set(this.have());
    this.tasks.push(...tasks.filter((task) => !held.has(task.task_id)));
  }

  async startOver() {
    this.screen("hourglass_empty", "One moment…");
    if (await this.fetchTasks()) this.showNext();
  }

  // ---- rating ----

  async rate(answer) {
    const { task, review } = this;
    const revision = review >= 0 ? this.history[review].revision + 1 : 1;
    const comment = this.commentField.value.trim();
    const rating = { task: task.task_id, revision, answer, comment, seconds: this.seconds() };
    this.busy = true;
    this.root.classList.add("sending");
    this.protocol.decorate(this.articles);
    this.outbox.keep(rating);
    const reply = await this.send(rating);
    if (!reply) return;
    this.outbox.remove(rating);
    this.root.classList.remove("sending");
    if (reply.status === 200) await this.stored(rating, reply, { task, answer, comment });
    else await this.refused(reply);
  }

  async stored(rating, { document: receipt, tries }, entry) {
    const elsewhere = receipt.revision !== rating.revision || (receipt.already && tries === 0);
    if (elsewhere) this.say("This one was rated in another tab already, and that rating stands. Undo (U) leads back to it.");
    else this.say("");
    this.forgetDraft(rating.task);
    this.progress = receipt.progress;
    const stored = { ...entry, revision: receipt.revision, answer: elsewhere ? null : entry.answer };
    if (this.review >= 0) this.history[this.review] = stored;
    else this.history.push(stored);
    this.tasks = this.tasks.filter((task) => task.task_id !== rating.task);
    this.review = -1;
    this.view.instruction = false;
    this.add(receipt.tasks);
    if (this.tasks.length > 0 || await this.fetchTasks()) this.showNext();
  }

  // The engine took the rating for good or ill: what can be put right stays on the desk, all else goes on.
  async refused(reply) {
    this.presses = [];
    const gone = [404, 409, 410].includes(reply.status);
    if (gone) {
      this.forgetDraft(this.task.task_id);
      this.tasks = this.tasks.filter((task) => task !== this.task);
      this.review = -1;
      if (!await this.fetchTasks()) return;
      this.showNext();
    } else this.ready();
    this.say(`Not stored. ${troubleText(reply)}`, "warn");
  }

  undo() {
    const back = this.review >= 0 ? this.review - 1 : this.history.length - 1;
    if (back < 0) {
      this.say("There is nothing further back.");
      return;
    }
    this.review = back;
    this.showNext();
    this.say("");
  }

  goOn() {
    if (this.review < 0) return;
    this.review = -1;
    this.say("");
    this.showNext();
  }

  // ---- what is shown ----

  showNext() {
    clearTimeout(this.lookAgain);
    this.rememberDraft();
    if (this.review < 0 && (this.round.state === "closed" || this.tasks.length === 0)) this.showEnd();
    else this.showTask();
    this.ready();
  }

  // From here on keys count again; those that waited go first.
  ready() {
    this.busy = this.waiting = false;
    while (!this.busy && this.presses.length) this.perform(this.presses.shift());
  }

  showTask() {
    const stored = this.review >= 0 ? this.history[this.review] : null;
    this.task = stored ? stored.task : this.firstTask();
    const draft = this.drafts.get(this.task.task_id);
    const wasEditing = this.protocol?.editing;
    this.skipping = null;
    this.protocol = new PROTOCOLS[this.round.protocol](this, draft?.state, stored?.answer);
    this.commentField.value = draft?.comment ?? stored?.comment ?? "";
    this.sizeComment();
    this.view.prompt = this.view.marked = false;
    this.startedAt = document.hidden ? null : performance.now();
    this.spent = 0;
    this.root.className = `desk rating ${this.round.protocol}${stored ? " review" : ""}`;
    this.showTop();
    this.showWork();
    this.showBar();
    this.foot.hidden = false;
    if (this.atFirst) this.say(this.atFirst);
    this.atFirst = "";
    if (wasEditing) this.protocol.field.focus();
  }

  // What was begun in an earlier visit comes first.
  firstTask() {
    const begun = this.tasks.findIndex((task) => this.drafts.get(task.task_id)?.begun);
    if (begun > 0) this.tasks.unshift(...this.tasks.splice(begun, 1));
    this.drafts.forEach((draft) => { draft.begun = false; });
    return this.tasks[0];
  }

  showTop() {
    const { done, total } = this.progress;
    const share = total ? Math.min(1, done / total) : null;
    const text = element("span", { class: "progress-text", role: "status", "aria-live": "polite" },
      this.review >= 0 ? "Back at an earlier one" : progressText(this.progress));
    const meter = share !== null && element("div", { class: "meter", role: "progressbar", "aria-label": "Rated",
      "aria-valuemin": "0", "aria-valuemax": String(total), "aria-valuenow": String(done) }, element("div", { style: null }));
    if (meter) meter.firstChild.style.width = `${share * 100}%`;
    const open = this.view.instruction || (this.history.length === 0 && this.view.instruction !== null);
    const hasInstruction = this.round.instruction.trim() !== "";
    this.top.replaceChildren(element("div", { class: "line" }, text, meter || element("span", { class: "gap" }),
      hasInstruction ? keyButton(this, "i", "Instruction", { kind: "quiet", icon: "menu_book", pressed: open }) : "",
      keyButton(this, "?", "Keys", { kind: "quiet for-keys", icon: "keyboard" })),
    hasInstruction && open ? element("div", { class: "instruction", tabindex: "0", "aria-label": "Instruction" }, renderMarkdown(this.round.instruction)) : "");
    this.instructionOpen = open;
  }

  showWork() {
    this.articles = answersView(this, this.task);
    this.bodies = this.articles.map((article) => article.querySelector(".body"));
    linkScrolling(this.bodies, () => this.view.linked);
    const answers = element("div", { class: `answers count-${Math.min(this.articles.length, 4)}` }, this.articles);
    const beside = this.protocol.beside();
    const letters = this.articles.length > 1 && this.letterTabs(answers);
    this.work.replaceChildren(...[promptView(this, this.task), letters, element("div", { class: `stage${beside ? " with-side" : ""}` }, answers, beside ?? "")].filter(Boolean));
    this.protocol.decorate(this.articles);
    if (this.view.marked) this.mark();
  }

  // On a phone the answers lie side by side, a swipe apart: these lead to each.
  letterTabs(answers) {
    const tabs = this.articles.map((article, place) => element("button", { type: "button", class: "tab", "aria-pressed": String(place === 0),
      onclick: () => answers.scrollTo({ left: article.offsetLeft - answers.offsetLeft, behavior: "smooth" }) }, `Answer ${letter(place)}`));
    answers.addEventListener("scroll", () => {
      const place = Math.round(Math.abs(answers.scrollLeft) / Math.max(1, answers.clientWidth));
      tabs.forEach((tab, index) => tab.setAttribute("aria-pressed", String(index === place)));
    }, { passive: true });
    return element("div", { class: "tabs", role: "group", "aria-label": "Which answer is in view" }, tabs);
  }

  showBar() {
    const focused = this.root.getRootNode().activeElement?.dataset?.key;
    const answering = this.skipping ?? this.protocol;
    const tool = (key, label, icon, options = {}) => keyButton(this, key, label, { kind: "tool", icon, ...options });
    const tools = this.skipping ? [] : [
      tool("u", "Undo", "undo"),
      this.review >= 0 ? tool("escape", "Go on without change", "redo") : tool("s", "Skip", "skip_next"),
      tool("m", "Comment", "comment"),
      this.comparable() && tool("d", "Differences", "difference", { pressed: this.view.marked }),
      this.articles.length > 1 && tool("l", "Scroll together", "sync_alt", { pressed: this.view.linked }),
      tool("x", "Plain text", "match_case", { pressed: this.view.plain }),
    ];
    this.bar.replaceChildren(element("div", { class: "controls" }, answering.controls().filter(Boolean)),
      element("div", { class: "tools" }, tools.filter(Boolean)));
    if (focused) this.bar.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    this.commentField.hidden = this.skipping !== null;
  }

  showEnd() {
    const { done, total } = this.progress;
    const held = total !== null && done < total;
    this.task = null;
    if (this.round.state === "closed") this.screen("lock", "This round is closed. Thank you: what you rated counts.");
    else if (held) {
      this.screen("hourglass_empty", `Nothing for you right now: others are rating what is left. You have rated ${done} of ${total}; this page looks again by itself.`, () => this.startOver(), "Look now");
      this.lookAgain = setTimeout(() => this.startOver(), LOOK_AGAIN);
    } else {
      this.screen("task_alt", `All rated. Thank you. You rated ${done.toLocaleString("en")}; the result appears once the round is closed, and until then you can go back with U.`, () => this.press("u"), "Go back");
    }
  }

  // A sentence in place of work.
  screen(icon, text, act = null, label = "Try again") {
    this.root.className = "desk idle";
    this.task = null;
    this.foot.hidden = true;
    this.top.replaceChildren();
    this.work.replaceChildren(element("div", { class: "sentence", role: "status" }, symbol(icon), element("p", {}, text),
      act && element("button", { type: "button", class: "button", onclick: act }, label)));
  }

  say(text, kind = "", canTryNow = false) {
    this.notice.className = `notice ${kind}`;
    this.notice.replaceChildren(text, canTryNow ? element("button", { type: "button", class: "button quiet", onclick: tryNow }, "Try now") : "");
  }

  changed() {
    this.say("");
    this.protocol.decorate(this.articles);
    this.showBar();
    this.keepDraft();
  }

  comparable() {
    return this.articles.length === 2 || (this.articles.length === 1 && Boolean(this.task.reference));
  }

  mark() {
    const reference = this.work.querySelector(".reference");
    if (this.bodies.length === 1 && reference) reference.open = true;
    const [first, second] = this.bodies.length === 2 ? this.bodies : [this.bodies[0], reference.querySelector(".text")];
    this.say(markDifferences(first, second));
  }

  toggle(name) {
    const shares = this.bodies.map((body) => body.scrollTop);
    this.view[name] = !this.view[name];
    if (name !== "linked") this.showWork();
    this.bodies.forEach((body, place) => { body.scrollTop = shares[place]; });
    this.showBar();
  }

  // ---- keys ----

  keys() {
    if (this.task === null) return new Map(this.round ? [["u", { run: () => this.undo() }]] : []);
    return new Map([...this.commonKeys(), ...(this.skipping ?? this.protocol).keys()]);
  }

  commonKeys() {
    const scroll = (key, label, pixels) => [key, { label, now: true, run: () => scrollTogether(this.bodies, pixels()) }];
    const page = () => Math.max(...this.bodies.map((body) => body.clientHeight)) * 0.85;
    const keys = [
      ["u", { label: "Undo: back to the one before", run: () => this.undo() }],
      ["s", { label: "Skip, with a reason", run: () => this.skip() }],
      ["m", { label: "Comment (Esc leaves it)", field: true, run: () => this.commentField.focus() }],
      ...Object.entries(SCROLL_BY).map(([key, pixels]) => scroll(key, pixels > 0 ? "Scroll down" : "Scroll up", () => pixels)),
      scroll(" ", "A page down", page), scroll("shift+ ", "", () => -page()),
      ["l", { label: "Scroll together by hand, too", now: true, run: () => this.toggle("linked") }],
      ["x", { label: "Plain text", now: true, run: () => this.toggle("plain") }],
      ["i", { label: "Instruction", now: true, run: () => this.toggleInstruction() }],
      ["o", { label: "The whole prompt", now: true, run: () => this.toggle("prompt") }],
      ["escape", { label: this.review >= 0 ? "Go on without change" : "", run: () => this.goOn() }],
      ["?", { label: "These keys", now: true, run: () => this.openSheet() }],
    ];
    if (this.comparable()) keys.push(["d", { label: "Words that differ", now: true, run: () => this.toggle("marked") }]);
    return keys;
  }

  toggleInstruction() {
    this.view.instruction = this.instructionOpen ? null : true;
    this.showTop();
  }

  onKey(event) {
    if (!this.root.isConnected || event.defaultPrevented || !this.isInSight()) return;
    const key = keyOf(event, new Set(["escape", "enter", "ctrl+enter", "ctrl+shift+enter"]));
    const field = event.composedPath()[0].dataset?.desk;
    if (!key || (event.repeat && !SCROLLS.has(key))) return;
    const taken = field ? this.inField(field, key, event) : this.sheet ? this.inSheet(key) : this.press(key, event.key);
    if (taken) {
      event.preventDefault();
      event.stopImmediatePropagation(); // C and the like are not for the app as well
    }
  }

  isInSight() {
    return this.root.checkVisibility?.() ?? true;
  }

  inField(field, key, event) {
    if (field === "text" && key.startsWith("ctrl")) return this.press(key, "");
    if (field === "reason" && key === "enter") { this.skipping.written(); return true; }
    if (field === "reason" && key === "escape") { this.stopSkipping(); return true; }
    if (key !== "escape" && !(field === "comment" && key.endsWith("enter") && !event.shiftKey)) return false;
    event.composedPath()[0].blur();
    return true;
  }

  inSheet(key) {
    if (key === "escape" || key === "?") this.closeSheet();
    return key === "escape" || key === "?";
  }

  // Whether the key is one of the desk's; `character`: as it would stand in a field.
  press(key, character = "") {
    if (this.busy && !this.task) return false;
    const action = this.keys().get(key);
    const typed = this.presses.some((press) => press.field);
    if (!action && !(typed && character.length === 1)) return false;
    if (!this.busy || (action?.now && !typed)) this.perform({ key, character });
    else if (!this.waiting) this.presses.push({ key, character, field: action?.field });
    return true;
  }

  perform({ key }) {
    const action = this.keys().get(key);
    action?.run();
    if (!action?.field || this.presses.length === 0) return;
    const field = this.root.getRootNode().activeElement; // what was typed on the way to it
    const text = this.presses.splice(0).map((press) => press.character).filter((character) => character.length === 1);
    if (field?.dataset.desk) field.setRangeText(text.join(""), field.value.length, field.value.length, "end");
  }

  skip() {
    this.skipping = new Skipping(this);
    this.showBar();
  }

  stopSkipping() {
    this.skipping = null;
    this.showBar();
    this.say("");
  }

  openSheet() {
    const own = (this.skipping ?? this.protocol).keys();
    const common = new Map(this.commonKeys().filter(([key]) => !own.has(key)));
    this.sheetOpener = this.root.getRootNode().activeElement;
    this.sheet = sheetView(this, [["This task", own], ["Everywhere", common]], () => this.closeSheet());
    this.root.append(this.sheet);
    this.sheet.querySelector(".sheet").focus();
  }

  closeSheet() {
    this.sheet.remove();
    this.sheet = null;
    this.sheetOpener?.focus?.();
  }

  // ---- time, comments and drafts ----

  tick() {
    if (document.hidden && this.startedAt !== null) {
      this.spent += performance.now() - this.startedAt;
      this.startedAt = null;
    } else if (!document.hidden && this.startedAt === null) this.startedAt = performance.now();
  }

  // Spent on this task with the page in view.
  seconds() {
    const running = this.startedAt === null ? 0 : performance.now() - this.startedAt;
    return Math.round((this.spent + running) / 10) / 100;
  }

  sizeComment() {
    this.commentField.style.height = "auto";
    if (this.commentField.value) this.commentField.style.height = `${Math.min(this.commentField.scrollHeight + 2, 140)}px`;
  }

  keepDraft() {
    clearTimeout(this.draftTimer);
    this.draftTimer = setTimeout(() => this.writeDraft(), KEEP_DRAFT_AFTER);
  }

  // What is begun and not sent, of the task on the desk.
  rememberDraft() {
    if (!this.task || !this.protocol) return;
    const [state, comment] = [this.protocol.state(), this.commentField.value];
    const id = this.task.task_id;
    const waits = this.tasks.includes(this.task);
    if (waits && (state !== null || comment.trim() !== "")) this.drafts.set(id, { task: id, state, comment });
    else this.drafts.delete(id);
  }

  writeDraft() {
    this.rememberDraft();
    const draft = this.task && this.drafts.get(this.task.task_id);
    if (this.task) writeStorage(this.draftName, draft ? { ...draft, begun: true } : null);
  }

  forgetDraft(id) {
    clearTimeout(this.draftTimer);
    this.drafts.delete(id);
    if (readStorage(this.draftName)?.task === id) writeStorage(this.draftName, null);
  }
}

function progressText({ done, total, seconds_each: pace }) {
  const count = total === null ? plural(done, "rating") : `${done.toLocaleString("en")} of ${total.toLocaleString("en")}`;
  if (total === null || pace === null || done >= total) return count;
  const minutes = ((total - done) * pace) / 60;
  const left = minutes < 1 ? "less than a minute" : minutes < 90 ? `about ${Math.round(minutes)} min` : `about ${Math.round(minutes / 60)} h`;
  return `${count} · ${left} left`;
}

const desks = new WeakMap(); // by the element that Streamlit gives; this runs again at each rerun of the page

export default function mount({ data, parentElement }) {
  const root = parentElement.querySelector(".desk");
  let desk = desks.get(parentElement);
  if (desk?.root !== root || desk.roundId !== data.round) {
    desk?.leave();
    desk = new Desk(root, data.round);
    desks.set(parentElement, desk);
    desk.begin();
  }
  return () => {
    desk.leave();
    desks.delete(parentElement);
  };
}
