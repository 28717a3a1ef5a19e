// The desk: which task is shown, what a press does to it, and what comes next.
//
// The next task is on the desk as soon as one is rated: its elements were made while the one before was read,
// and the rating goes out behind it (`Outbox`). What the engine says to a rating finds its way to `history`.

const HOLDS = 4; // tasks: the one that is shown and a few next; what one desk holds nobody else can rate
const MAX_TOLD = 20; // tasks that a request may name
const ASK_EVERY = 60_000; // ms, while the page is in view: so that what it holds stays its own
const LOOK_AGAIN = 15_000; // ms, while others hold what is left

class Desk {
  constructor(root, roundId) {
    Object.assign(this, { root, roundId, round: null, progress: null, task: null, tasks: [], review: -1 });
    this.history = []; // what was rated, as {task, revision, answer, comment}; answer: null for another tab's
    this.prepared = null; // elements of the next task
    this.pressedAt = 0; // when the last key or button was pressed, by the clock of events
    this.keyboard = new Keyboard(this);
    this.drafts = new Drafts(roundId);
    this.view = { plain: false, linked: false, instruction: false, marked: false };
    this.outbox = new Outbox(roundId, this);
    this.leaving = new AbortController();
  }

  // ---- beginning and end ----

  async begin() {
    this.listen();
    this.build();
    this.screen("hourglass_empty", "Loading your first tasks …");
    const begun = this.drafts.restore();
    if (!await this.fetchTasks()) return;
    this.takeBack(this.outbox.restore());
    this.tasks.sort((task, other) => (other.task_id === begun) - (task.task_id === begun));
    this.outbox.send();
    this.showNext();
  }

  listen() {
    const { signal } = this.leaving;
    const on = (target, kind, act) => target.addEventListener(kind, act, { capture: true, signal });
    for (const kind of ["keydown", "click", "touchend"]) {
      on(window, kind, (event) => { this.pressedAt = event.timeStamp; });
    }
    on(window, "keydown", (event) => this.keyboard.onKey(event));
    on(window, "keyup", (event) => this.keyboard.onRelease(event));
    on(window, "resize", () => this.fit());
    on(window, "pagehide", () => this.close());
    on(document, "visibilitychange", () => { this.clock?.look(); this.askAnew(); });
    this.asking = setInterval(() => this.askAnew(), ASK_EVERY);
  }

  // What earlier visits gave and could not send is rated, as far as this page goes.
  takeBack(leftovers) {
    for (const { task, revision, answer, comment } of leftovers) {
      const entry = this.entryOf(task) ?? { task: this.tasks.find((each) => each.task_id === task) };
      if (!entry.task) continue;
      Object.assign(entry, { revision, answer, comment });
      if (!this.history.includes(entry)) this.history.push(entry);
    }
    this.tasks = this.tasks.filter((task) => !this.outbox.has(task.task_id));
  }

  // The page goes: what is begun is kept, what waits is sent, and what is neither goes back to others.
  close() {
    this.writeDraft();
    this.outbox.flush();
    const keep = [...new Set([...this.outbox.tasks, ...this.drafts.tasks])].slice(0, MAX_TOLD);
    if (this.round !== null) sendOff("/rating/release", { round: this.roundId, keep });
  }

  leave() {
    this.close();
    this.clock?.stop();
    clearTimeout(this.lookAgain);
    clearInterval(this.asking);
    this.leaving.abort();
  }

  build() {
    Object.assign(this, deskParts());
    this.comment = new CommentField(this.commentField, () => this.keepDraft());
    this.root.replaceChildren(this.live, this.top, this.work, this.foot);
    takeSwipes(this.bar, (direction) => { if (!this.skipping) this.protocol?.swiped?.(direction); });
    this.fit();
  }

  // The desk takes what the page leaves of the window, so that answers scroll and the bar stays in reach.
  fit() {
    const outer = scroller(this.bar ?? this.root);
    const above = this.root.getBoundingClientRect().top + (outer?.scrollTop ?? 0);
    this.root.style.setProperty("--above", `${Math.round(above)}px`);
    markCut(this.work);
  }

  // ---- to and from the engine ----

  // Tasks that are this desk's: to be rated, or rated and not stored.
  get held() {
    return [...this.tasks.map((task) => task.task_id), ...this.outbox.tasks];
  }

  have(without) {
    return this.held.filter((id) => id !== without).slice(0, MAX_TOLD);
  }

  get wanted() {
    return { round: this.roundId, want: HOLDS, have: this.have() };
  }

  // More tasks and how the round stands; false where that could not be learned.
  async fetchTasks() {
    const { signal } = this.leaving;
    const answer = await insist("/rating/next", () => this.wanted, signal, (trouble) => this.away(trouble));
    if (!answer) return false;
    if (answer.status !== 200) {
      this.screen("error", troubleText(answer), () => this.fetchNext());
      return false;
    }
    this.take(answer.document);
    return true;
  }

  // Behind what is shown: nothing is said where there is no answer.
  async askAnew() {
    if (document.hidden || this.round === null) return;
    const answer = await post("/rating/next", this.wanted, this.leaving.signal);
    if (answer.status !== 200 || this.leaving.signal.aborted) return;
    const wasOpen = this.round.state === "open";
    this.take(answer.document);
    const isOver = this.review < 0 && wasOpen && this.round.state === "closed";
    if (isOver || (this.task === null && this.tasks.length > 0)) this.showNext();
    else if (this.task !== null) this.showProgress();
  }

  // `notice`: why nothing more comes, where it isn't that all is rated.
  take({ round, tasks, progress, last, notice = null }) {
    Object.assign(this, { round, progress, ending: notice });
    if (this.history.length === 0) this.history = [...last].reverse();
    this.add(tasks);
  }

  away(answer) {
    if (answer === null || this.task !== null) return;
    const kept = this.outbox.count;
    const also = kept ? ` ${plural(kept, "rating")} kept in this browser will be sent.` : "";
    const text = awayText(answer);
    this.screen("cloud_off", `${text[0].toUpperCase()}${text.slice(1)}${also}`, tryNow, "Try now");
  }

  add(tasks) {
    const held = new Set(this.held);
    this.tasks.push(...tasks.filter((task) => !held.has(task.task_id)));
    this.prepare();
  }

  // ---- rating ----

  // Whether what was pressed last can be meant for what is on the desk; says so where it can't.
  isSeen() {
    if (this.task === null || this.clock.takes(this.pressedAt)) return true;
    this.say("Not counted: the key was pressed too soon after this item appeared.");
    return false;
  }

  // Of answers that lie a swipe apart, the first that was never in view: nobody can have compared it.
  get unseen() {
    const strip = this.articles[0]?.parentElement;
    const isApart = this.review < 0 && strip && strip.scrollWidth > strip.clientWidth + 1;
    return isApart ? this.articles.findIndex((article, place) => !this.looked.has(place)) : -1;
  }

  rate(answer) {
    if (!this.isSeen()) return;
    if (!answer.skipped && this.unseen >= 0) {
      this.say(`Look at answer ${letter(this.unseen)} first: swipe the answers, or tap its name.`, "warn");
      return;
    }
    const { task, review } = this;
    const { task_id: id } = task;
    const revision = (this.history[review]?.revision ?? 0) + 1;
    const comment = this.comment.text.trim();
    const entry = { task, revision, answer, comment };
    if (review >= 0) this.history[review] = entry;
    else this.history = [...this.history.filter((other) => other.task.task_id !== id), entry];
    this.outbox.keep({ task: id, revision, answer, comment, seconds: this.clock.seconds() });
    this.drafts.forget(id);
    this.tasks = this.tasks.filter((other) => other.task_id !== id);
    this.review = -1;
    this.view.instruction = false;
    this.say("");
    this.showNext();
  }

  // ---- what became of a rating ----

  stored({ rating, isLeftover }, receipt, isElsewhere) {
    const entry = this.entryOf(rating.task);
    const isLast = !this.outbox.has(rating.task); // else a later revision of it waits
    if (entry && isLast) entry.revision = receipt.revision;
    if (entry && isElsewhere) {
      entry.answer = null;
      const lookAt = ["View item", () => this.goBackTo(entry)];
      this.say("Already rated in another tab; that rating is kept.", "", lookAt);
    } else if (isLeftover && !this.outbox.hasLeftovers) {
      this.say("All ratings from your last visit are saved.");
    }
    this.progress = receipt.progress;
    this.add(receipt.tasks);
    if (this.task === null) this.showNext();
    else this.showProgress();
  }

  // What is wrong with it can be put right, or the task is no longer there to be rated; both are said until
  // somebody goes back to it or leaves it.
  refused(rating, { status }) {
    const entry = this.entryOf(rating.task);
    if (entry?.revision === rating.revision) entry.revision -= 1;
    if ([404, 409, 410].includes(status)) this.askAnew();
    if (this.task === null) this.showNext();
  }

  entryOf(task) {
    return this.history.find((entry) => entry.task.task_id === task);
  }

  goBackTo(entry) {
    this.review = this.history.indexOf(entry);
    this.say("");
    this.showNext();
  }

  leaveRefused(task) {
    this.outbox.leave(task);
    this.showDelivery();
  }

  showDelivery() {
    const { trouble } = this.outbox;
    if (this.task === null && trouble) this.away(trouble);
    this.delivery.replaceChildren(...deliveryView(this));
  }

  // ---- back, and on ----

  undo() {
    const back = this.review >= 0 ? this.review - 1 : this.history.length - 1;
    if (back < 0) this.say("This is the first item that you can go back to.");
    else this.goBackTo(this.history[back]);
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
    const isOpen = this.round.state === "open";
    if (this.review >= 0 || (isOpen && this.tasks.length > 0)) this.showTask();
    else if (!isOpen) this.showEnd();
    else if (this.outbox.waiting.length > 0) this.showWait();
    else this.fetchNext();
  }

  // Nothing is prepared; with the answer to what waits, more may come.
  showWait() {
    this.screen("hourglass_empty", "Loading your next tasks …");
    this.showDelivery();
  }

  async fetchNext() {
    if (this.task !== null) this.showWait();
    if (this.isFetching) return;
    this.isFetching = true;
    const isThere = await this.fetchTasks();
    this.isFetching = false;
    if (!isThere || this.task !== null) return; // meanwhile somebody went back
    if (this.tasks.length > 0 && this.round.state === "open") this.showTask();
    else this.showEnd();
  }

  showTask() {
    const stored = this.review >= 0 ? this.history[this.review] : null;
    this.task = stored ? stored.task : this.tasks[0];
    const draft = this.drafts.get(this.task.task_id);
    const before = this.protocol;
    this.skipping = null;
    this.protocol = new (protocolFor(this.round))(this, draft?.state, stored?.answer);
    this.comment.show(draft?.comment ?? stored?.comment ?? "");
    this.view.prompt = this.view.answers = this.view.marked = false;
    this.looked = new Set(); // places of answers that were in view
    this.clock?.stop();
    this.clock = new ScreenClock(() => this.prepare());
    this.root.className = `desk rating ${this.round.protocol}${stored ? " review" : ""}`;
    this.showTop();
    this.showWork();
    this.showBar();
    this.bar.hidden = false;
    this.fit();
    if (before?.editing) this.protocol.field.focus();
    this.protocol.begin?.(before);
  }

  showTop() {
    const wanted = this.view.instruction || (this.history.length === 0 && this.view.instruction !== null);
    this.instructionOpen = wanted && this.round.instruction.trim() !== "";
    this.top.replaceChildren(...topView(this, this.instructionOpen));
    this.live.textContent = whereText(this);
  }

  showProgress() {
    this.top.querySelector(".where").replaceChildren(...whereView(this));
  }

  showWork() {
    const { task, view, prepared } = this;
    const isReady = prepared?.task === task && prepared.plain === view.plain && !view.prompt;
    const { prompt, articles } = isReady ? prepared : taskView(this, task, view);
    this.prepared = null; // its elements are on the desk
    this.articles = articles;
    this.bodies = articles.map((article) => article.querySelector(".body"));
    linkScrolling(this.bodies, () => this.view.linked);
    const count = Math.min(articles.length, 4);
    const answers = element("div", { class: `answers count-${count}` }, articles);
    const side = this.protocol.buildSide();
    const stage = element("div", { class: `stage${side ? " with-side" : ""}` }, answers, side);
    const tabs = articles.length > 1 ? [tabsView(articles, answers, this.looked)] : [];
    this.work.classList.toggle("whole-answers", this.view.answers);
    this.work.replaceChildren(prompt, ...tabs, stage);
    this.protocol.decorate(articles);
    if (this.view.marked) this.mark();
  }

  // Make the elements of the next task while this one is read.
  prepare() {
    const next = this.tasks.find((task) => task !== this.task);
    const { plain } = this.view;
    if (!next || (this.prepared?.task === next && this.prepared.plain === plain)) return;
    this.prepared = { task: next, plain, ...taskView(this, next, { ...this.view, prompt: false }) };
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
    if (this.round.state === "closed") this.screen("lock", CLOSED);
    else if (this.ending) this.screen("task_alt", this.ending);
    else if (total !== null && done < total) {
      this.screen("hourglass_empty", othersText(done, total), () => this.fetchNext(), "Check now");
      this.lookAgain = setTimeout(() => this.fetchNext(), LOOK_AGAIN);
    } else this.screen("task_alt", ALL_RATED, () => this.press("u"), "Go back");
  }

  // In place of work, say why there is none.
  screen(icon, text, act = null, label = "Try again") {
    this.root.className = "desk idle";
    this.task = null;
    this.clock?.stop();
    this.bar.hidden = this.commentField.hidden = true;
    this.top.replaceChildren();
    this.work.replaceChildren(sentenceView(icon, text, act, label));
  }

  // `act`: a button next to it, as [label, action].
  say(text, kind = "", act = null) {
    this.notice.className = `notice ${kind}`;
    this.notice.replaceChildren(text, ...(act ? [plainButton(...act)] : []));
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
    if (name === "answers") this.work.classList.toggle("whole-answers", this.view.answers);
    else if (name !== "linked") this.showWork();
    this.bodies.forEach((body, place) => { body.scrollTop = shares[place]; });
    this.showBar();
    this.fit();
  }

  // ---- what keys and buttons ask for ----

  press(key) {
    this.keyboard.press(key);
  }

  skip() {
    this.skipping = new Skipping(this);
    this.say("");
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

  // ---- drafts ----

  keepDraft() {
    this.drafts.storeSoon(() => this.writeDraft());
  }

  // Of the task on the desk; what is changed on a look back is not begun but sent or left.
  rememberDraft() {
    if (!this.tasks.includes(this.task)) return;
    this.drafts.keep(this.task.task_id, this.protocol.state(), this.comment.text);
  }

  writeDraft() {
    this.rememberDraft();
    if (this.tasks.includes(this.task)) this.drafts.store(this.task.task_id);
  }
}
