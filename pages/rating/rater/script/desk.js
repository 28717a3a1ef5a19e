// The desk: which task is shown, what a key does now, and what is stored before the next one is shown.
//
// A rating is stored before the next task is shown. `busy`: no answer has come yet, and keys wait their
// turn. `waiting`: that takes long, which is shown, and keys are not taken: nobody means to rate what they
// can't see.

const HOLDS = 4; // tasks
const LOOK_AGAIN = 15_000; // ms, while others hold what is left

class Desk {
  constructor(root, roundId) {
    Object.assign(this, { root, roundId, round: null, progress: null, tasks: [], history: [], review: -1 });
    this.keyboard = new Keyboard(this);
    this.busy = this.waiting = true; // nothing can be rated yet
    this.drafts = new Drafts(roundId);
    this.clock = new Clock();
    this.view = { plain: false, linked: false, instruction: false, prompt: false, marked: false };
    this.outbox = new Outbox(roundId);
    this.leaving = new AbortController();
  }

  // ---- beginning and end ----

  async begin() {
    const options = { capture: true, signal: this.leaving.signal };
    window.addEventListener("keydown", (event) => this.keyboard.onKey(event), options);
    window.addEventListener("resize", () => this.fit(), options);
    window.addEventListener("pagehide", () => this.writeDraft(), options);
    document.addEventListener("visibilitychange", () => this.clock.look(), options);
    this.build();
    this.screen("hourglass_empty", "One moment: your first tasks are on their way.");
    await this.sendLeftovers();
    const begun = this.drafts.restore();
    if (!await this.fetchTasks()) return;
    this.tasks.sort((task, other) => (other.task_id === begun) - (task.task_id === begun));
    this.showNext();
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
    this.bar = element("div", { class: "bar", role: "group", "aria-label": "Rating" });
    this.commentField = element("textarea", { class: "comment", rows: "1", maxlength: "4000", dir: "auto",
      "data-desk": "comment", placeholder: "Comment (Esc leaves it)", "aria-label": "Comment" });
    this.commentField.addEventListener("input", () => { this.sizeComment(); this.keepDraft(); });
    this.commentField.addEventListener("blur", () => this.sizeComment());
    this.foot = element("footer", { class: "foot" }, this.notice, this.bar, this.commentField);
    this.live = element("div", { class: "live", role: "status", "aria-live": "polite" }); // stays, to be heard
    this.root.replaceChildren(this.live, this.top, this.work, this.foot);
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

  send(rating, trouble, outlast) {
    const body = () => ({ round: this.roundId, ...rating, have: this.have(rating.task) });
    return insist("/rating/rate", body, this.leaving.signal, trouble, outlast);
  }

  notStored(answer) {
    this.waiting = true;
    if (answer === null) {
      this.say("Storing…");
      return;
    }
    const kept = this.outbox.outlivesPage ? "" : " Leave this page open: the browser keeps nothing.";
    this.say(`Not stored yet: ${awayText(answer)}${kept}`, "warn", true);
  }

  // What an earlier visit could not send. What belongs to another person who used this browser stays.
  async sendLeftovers() {
    for (const rating of this.outbox.read()) {
      const answer = await this.send(rating, (trouble) => this.away(trouble), false);
      if (!answer) return;
      const stays = isSignedOut(answer.status);
      if (!stays) this.outbox.remove(rating);
      if (answer.status === 200) this.atFirst = "What your last visit could not send is stored now.";
      else if (stays) this.atFirst = "A rating stays in this browser until whoever gave it signs in here.";
      else this.atFirst = `A rating of your last visit could not be stored. ${troubleText(answer)}`;
    }
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
    const { round, tasks, progress, last, notice } = answer.document;
    Object.assign(this, { round, progress, ending: notice });
    if (this.history.length === 0) this.history = [...last].reverse();
    this.add(tasks);
    return true;
  }

  away(answer) {
    if (answer === null) return;
    const kept = this.outbox.read().length;
    const also = kept ? ` ${plural(kept, "rating")} kept in this browser will be sent.` : "";
    const text = awayText(answer);
    this.screen("cloud_off", `${text[0].toUpperCase()}${text.slice(1)}${also}`, tryNow, "Try now");
  }

  add(tasks) {
    const held = new Set(this.have());
    this.tasks.push(...tasks.filter((task) => !held.has(task.task_id)));
  }

  async startOver() {
    if (await this.fetchTasks()) this.showNext();
  }

  // ---- rating ----

  async rate(answer) {
    const { task, review } = this;
    const revision = review >= 0 ? this.history[review].revision + 1 : 1;
    const comment = this.commentField.value.trim();
    const rating = { task: task.task_id, revision, answer, comment, seconds: this.clock.seconds() };
    this.busy = true;
    this.root.classList.add("sending");
    this.protocol.decorate(this.articles);
    this.outbox.keep(rating);
    const reply = await this.send(rating, (trouble) => this.notStored(trouble));
    if (!reply) return;
    this.outbox.remove(rating);
    this.root.classList.remove("sending");
    if (reply.status === 200) await this.stored(rating, reply, { task, answer, comment });
    else await this.refused(reply);
  }

  async stored(rating, { document: receipt, tries }, entry) {
    const elsewhere = receipt.revision !== rating.revision || (receipt.already && tries === 0);
    this.say(elsewhere ? "Rated in another tab already; that rating stands. Undo (U) leads back to it." : "");
    this.drafts.forget(rating.task);
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
    this.keyboard.forget();
    const gone = [404, 409, 410].includes(reply.status);
    if (gone) {
      this.drafts.forget(this.task.task_id);
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
    this.keyboard.catchUp();
  }

  showTask() {
    const stored = this.review >= 0 ? this.history[this.review] : null;
    this.task = stored ? stored.task : this.tasks[0];
    const draft = this.drafts.get(this.task.task_id);
    const before = this.protocol;
    this.skipping = null;
    this.protocol = new (protocolFor(this.round))(this, draft?.state, stored?.answer);
    this.commentField.value = draft?.comment ?? stored?.comment ?? "";
    this.sizeComment();
    this.view.prompt = this.view.marked = false;
    this.clock = new Clock();
    this.root.className = `desk rating ${this.round.protocol}${stored ? " review" : ""}`;
    this.showTop();
    this.showWork();
    this.showBar();
    this.foot.hidden = false;
    this.fit();
    if (this.atFirst) this.say(this.atFirst);
    this.atFirst = "";
    if (before?.editing) this.protocol.field.focus();
    this.protocol.begin?.(before);
  }

  showTop() {
    const wanted = this.view.instruction || (this.history.length === 0 && this.view.instruction !== null);
    this.instructionOpen = wanted && this.round.instruction.trim() !== "";
    this.top.replaceChildren(...topView(this, this.instructionOpen));
    this.live.textContent = whereText(this);
  }

  showWork() {
    this.articles = answersView(this, this.task);
    this.bodies = this.articles.map((article) => article.querySelector(".body"));
    linkScrolling(this.bodies, () => this.view.linked);
    const count = Math.min(this.articles.length, 4);
    const answers = element("div", { class: `answers count-${count}` }, this.articles);
    const beside = this.protocol.beside();
    const stage = element("div", { class: `stage${beside ? " with-side" : ""}` }, answers, beside);
    const tabs = this.articles.length > 1 ? [tabsView(this.articles, answers)] : [];
    this.work.replaceChildren(promptView(this, this.task), ...tabs, stage);
    this.protocol.decorate(this.articles);
    if (this.view.marked) this.mark();
  }

  showBar() {
    const focused = this.root.getRootNode().activeElement?.dataset?.key;
    const answering = this.skipping ?? this.protocol;
    const controls = element("div", { class: "controls" }, answering.controls());
    this.bar.replaceChildren(controls, ...(this.skipping ? [] : [toolsView(this)]));
    if (focused) this.bar.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  showEnd() {
    const { done, total } = this.progress;
    if (this.round.state === "closed") {
      this.screen("lock", "This round is closed. Thank you: what you rated counts.");
    } else if (this.ending) {
      this.screen("task_alt", this.ending);
    } else if (total !== null && done < total) {
      const text = "Nothing for you right now: others are rating what is left. You have rated";
      const count = `${done.toLocaleString("en")} of ${total.toLocaleString("en")}`;
      const again = "This page looks again by itself.";
      this.screen("hourglass_empty", `${text} ${count}. ${again}`, () => this.startOver(), "Look now");
      this.lookAgain = setTimeout(() => this.startOver(), LOOK_AGAIN);
    } else {
      const next = "The result appears once the round is closed; until then you can look back and change.";
      this.screen("task_alt", `All rated. Thank you. ${next}`, () => this.press("u"), "Go back");
    }
  }

  // In place of work, say why there is none.
  screen(icon, text, act = null, label = "Try again") {
    this.root.className = "desk idle";
    this.task = null;
    this.foot.hidden = true;
    this.top.replaceChildren();
    this.work.replaceChildren(sentenceView(icon, text, act, label));
  }

  say(text, kind = "", canTryNow = false) {
    this.notice.className = `notice ${kind}`;
    this.notice.replaceChildren(text);
    if (canTryNow) this.notice.append(plainButton("Try now", tryNow));
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
    this.say(markDifferences(this.bodies[0], this.bodies[1] ?? reference.querySelector(".text")));
  }

  toggle(name) {
    const shares = this.bodies.map((body) => body.scrollTop);
    this.view[name] = !this.view[name];
    if (name !== "linked") this.showWork();
    this.bodies.forEach((body, place) => { body.scrollTop = shares[place]; });
    this.showBar();
  }

  // ---- what keys and buttons ask for ----

  press(key) {
    this.keyboard.press(key);
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

  toggleInstruction() {
    this.view.instruction = this.instructionOpen ? null : true;
    this.showTop();
  }

  // ---- comments and drafts ----

  openComment() {
    this.commentField.hidden = false;
    this.commentField.focus();
  }

  // As high as what is written, and away where nothing is.
  sizeComment() {
    const field = this.commentField;
    field.hidden = field.value.trim() === "" && this.root.getRootNode().activeElement !== field;
    field.style.height = "auto";
    if (field.value) field.style.height = `${Math.min(field.scrollHeight + 2, 140)}px`;
  }

  keepDraft() {
    this.drafts.storeSoon(() => this.writeDraft());
  }

  // Of the task on the desk; what is changed on a look back is not begun but sent or left.
  rememberDraft() {
    if (!this.tasks.includes(this.task)) return;
    this.drafts.keep(this.task.task_id, this.protocol.state(), this.commentField.value);
  }

  writeDraft() {
    this.rememberDraft();
    if (this.tasks.includes(this.task)) this.drafts.store(this.task.task_id);
  }
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
