// How a rating gets to the engine: kept in this browser until it is stored, sent until somebody answers.
//
// Ratings are sent behind the back of who rates, one after the other in the order in which they were given.
// One is known by its task and revision, under which it is stored once however often it is sent. Waits grow;
// whoever comes back to the page, back online or presses "Try now" doesn't wait.

const WAITS = [400, 800, 1600, 3000, 6000, 10_000, 15_000]; // ms before another try
const ANSWER_WITHIN = 20_000; // ms
const KEPT_ALIVE = 15_000; // characters that a browser still sends for a page that is closed: 64 KiB at most
const SLOW = 900; // ms after which it is said that an answer is waited for

// Ratings of one round that aren't stored yet. Each is an entry {key, rating, given}: `key` is its own in
// the browser's storage, where it lies as {rating, given, isSent}, so that tabs don't overwrite each other's.
// `isSent`: it may be stored already, by another page or as this one was closed.
class Outbox {
  // `desk`: is told by `stored`, `refused` and `showDelivery`, and asked for its other tasks.
  constructor(round, desk) {
    Object.assign(this, { round, desk });
    this.prefix = `tunebench-rating:${round}:`;
    this.tab = Math.random().toString(36).slice(2);
    this.waiting = []; // entries, the next one first
    this.refused = []; // entries with `why`, until they are rated again or discarded
    this.trouble = undefined; // why the first is not stored yet: the last answer, or null for a slow one
    this.outlivesPage = true; // whether the browser keeps what is given
    this.last = 0;
  }

  // What earlier visits, and other tabs, have not stored; it is sent before all else.
  restore() {
    const kept = storedNames(this.prefix).map((key) => ({ key, ...readStorage(key), isLeftover: true }));
    this.waiting = kept.filter(({ rating }) => rating).sort((one, other) => one.given - other.given);
    this.waiting.forEach((entry) => this.mark(entry));
    return this.waiting.map(({ rating }) => rating);
  }

  // How many the browser keeps, also before they were looked at.
  get count() {
    return this.waiting.length || storedNames(this.prefix).length;
  }

  keep(rating) {
    this.leave(rating.task);
    this.last = Math.max(Date.now(), this.last + 1);
    const key = `${this.prefix}${rating.task}:${rating.revision}:${this.tab}`;
    this.outlivesPage = writeStorage(key, { rating, given: this.last });
    this.waiting.push({ key, rating, given: this.last });
    this.desk.showDelivery();
    this.send();
  }

  // Let go of what was refused of a task.
  leave(task) {
    for (const entry of this.refused) if (entry.rating.task === task) writeStorage(entry.key, null);
    this.refused = this.refused.filter(({ rating }) => rating.task !== task);
  }

  has(task) {
    return this.waiting.some(({ rating }) => rating.task === task);
  }

  // Of an entry of the desk's history.
  refusedOf({ task }) {
    return this.refused.find(({ rating }) => rating.task === task.task_id);
  }

  // Tasks of which something waits or was refused.
  get tasks() {
    return [...new Set([...this.waiting, ...this.refused].map(({ rating }) => rating.task))];
  }

  // How many tasks are rated that the engine does not count yet.
  get uncounted() {
    return this.waiting.filter(({ rating }) => rating.revision === 1).length;
  }

  get hasLeftovers() {
    return this.waiting.some(({ isLeftover }) => isLeftover);
  }

  body({ rating }) {
    return { round: this.round, ...rating, want: HOLDS, have: this.desk.have(rating.task) };
  }

  async send() {
    if (this.isSending) return;
    this.isSending = true;
    try {
      while (this.waiting.length > 0 && await this.sendNext()) this.desk.showDelivery();
    } finally {
      this.isSending = false;
    }
  }

  // Whether there was an answer; else the page is left, and the browser keeps what waits.
  async sendNext() {
    const [entry] = this.waiting;
    const told = (trouble) => { this.trouble = trouble; this.desk.showDelivery(); };
    const { signal } = this.desk.leaving;
    const answer = await insist("/rating/rate", () => this.body(entry), signal, told, !entry.isLeftover);
    if (!answer) return false;
    this.waiting.shift();
    this.trouble = undefined;
    this.settle(entry, answer);
    return true;
  }

  settle(entry, answer) {
    const { status, document: receipt, tries } = answer;
    if (status === 200) {
      const isNews = receipt.revision > entry.rating.revision || (receipt.already && tries === 0);
      const isElsewhere = isNews && !this.isSent(entry);
      writeStorage(entry.key, null);
      this.desk.stored(entry, receipt, isElsewhere);
    } else if (isSignedOut(status)) this.desk.say(OF_ANOTHER); // of a leftover: it stays in the browser
    else {
      this.refused.push({ ...entry, why: troubleText(answer) });
      this.desk.refused(entry.rating, answer);
    }
  }

  // Send what waits without looking for an answer, as the page closes.
  flush() {
    for (const entry of this.waiting) {
      this.mark(entry);
      sendOff("/rating/rate", this.body(entry));
    }
  }

  mark(entry) {
    entry.isSent = true;
    writeStorage(entry.key, { rating: entry.rating, given: entry.given, isSent: true });
  }

  // By this page as it was closed, or by another tab, which marks it or has removed it by now.
  isSent(entry) {
    if (entry.isSent || !this.outlivesPage) return Boolean(entry.isSent);
    const kept = readStorage(entry.key);
    return kept === null || Boolean(kept.isSent);
  }
}

const OF_ANOTHER = "A rating is kept in this browser until the rater who gave it signs in here.";

// Whether the browser keeps it.
function writeStorage(name, content) {
  try {
    if (content === null) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(content));
    return true;
  } catch {
    return false;
  }
}

function readStorage(name) {
  try {
    return JSON.parse(localStorage.getItem(name) ?? "null");
  } catch {
    return null;
  }
}

// Names in the browser's storage that begin so.
function storedNames(prefix) {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

// Also from a page that closes: nothing tells whether it came.
function sendOff(path, body) {
  navigator.sendBeacon(path, new Blob([JSON.stringify(body)], { type: "application/json" }));
}

// What came back: {status, document}; status 0 where nothing did.
async function post(path, body, signal) {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_WITHIN)]);
  try {
    const text = JSON.stringify(body);
    const answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: text, credentials: "same-origin",
      cache: "no-store", signal: limited, keepalive: text.length < KEPT_ALIVE,
    });
    return { status: answer.status, document: await answer.json().catch(() => null) };
  } catch {
    return { status: 0, document: null };
  }
}

// Ask until there is an answer that another try wouldn't change; null where the page is left meanwhile.
// `body`: makes what is sent. `trouble`: called with the answer each time that another try is needed, and
// with null while one is slow to come. `outlast`: whether to wait too until the person has signed in again.
async function insist(path, body, signal, trouble, outlast = true) {
  for (let tries = 0; ; tries += 1) {
    const slow = setTimeout(() => trouble(null), SLOW);
    const answer = await post(path, body(), signal);
    clearTimeout(slow);
    if (signal.aborted) return null;
    const whole = answer.document !== null && typeof answer.document === "object";
    if (whole && !isTrouble(answer.status)) return { ...answer, tries };
    if (isSignedOut(answer.status) && !outlast) return { ...answer, tries };
    trouble(answer);
    const wait = WAITS[Math.min(tries, WAITS.length - 1)] * (0.8 + 0.4 * Math.random());
    await wakefulWait(wait, signal);
  }
}

function isSignedOut(status) {
  return status === 401 || status === 403;
}

// Whether a later try may go better.
function isTrouble(status) {
  return status === 0 || status >= 500 || status === 408 || status === 429 || isSignedOut(status);
}

// Ends early when there is reason to hope, or the page is left.
function wakefulWait(milliseconds, signal) {
  return new Promise((done) => {
    const ended = new AbortController();
    const end = () => { ended.abort(); clearTimeout(timer); done(); };
    const timer = setTimeout(end, milliseconds);
    const options = { signal: ended.signal };
    window.addEventListener("online", end, options);
    window.addEventListener("focus", end, options);
    window.addEventListener("rating-try-now", end, options);
    signal.addEventListener("abort", end, options);
  });
}

function tryNow() {
  window.dispatchEvent(new Event("rating-try-now"));
}

// Why there is no answer yet, as the end of a sentence.
function awayText(answer) {
  if (isSignedOut(answer.status)) {
    return "you are signed out, or may not rate here. Sign in again; what you rated is kept in this browser.";
  }
  const isAway = [0, 502, 503, 504].includes(answer.status);
  return `${isAway ? "the engine does not answer." : troubleText(answer)} Trying again…`;
}

// An error document as one text: what happened and what to do.
function troubleText(answer) {
  const { message, fix } = answer.document ?? {};
  if (message) return [message, fix].filter(Boolean).join(" ");
  return answer.status === 0 ? "The server is unreachable." : `The server answered with status ${answer.status}.`;
}
