// How a rating gets to the engine: kept in this browser until it is stored, sent until somebody answers.
//
// A rating is known by its task and revision, under which it is stored once however often it is sent. Waits
// grow; whoever comes back to the page, back online or presses "Try now" doesn't wait.

const WAITS = [400, 800, 1600, 3000, 6000, 10_000, 15_000]; // ms before another try
const ANSWER_WITHIN = 20_000; // ms
const KEPT_ALIVE = 15_000; // characters that a browser still sends for a page that is closed: 64 KiB at most
const SLOW = 900; // ms after which it is said that an answer is waited for

// Ratings of one round that aren't stored yet, in the browser's storage or, where that is shut, in the page.
class Outbox {
  constructor(round) {
    this.name = `tunebench-rating:${round}`;
    this.inPage = [];
    this.outlivesPage = true;
  }

  read() {
    try {
      const ratings = JSON.parse(localStorage.getItem(this.name) ?? "[]");
      return Array.isArray(ratings) ? ratings : [];
    } catch {
      return this.inPage;
    }
  }

  keep(rating) {
    this.write([...this.read().filter((other) => !isSame(other, rating)), rating]);
  }

  remove(rating) {
    this.write(this.read().filter((other) => !isSame(other, rating)));
  }

  write(ratings) {
    this.inPage = ratings;
    this.outlivesPage = writeStorage(this.name, ratings.length ? ratings : null);
  }
}

function isSame(first, second) {
  return first.task === second.task && first.revision === second.revision;
}

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
  return answer.status === 0 ? "The server is away." : `The server answered with status ${answer.status}.`;
}
