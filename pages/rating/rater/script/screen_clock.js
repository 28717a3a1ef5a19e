// How long a task has been on screen, and whether a press can be meant for it.
//
// A press counts only for what its reader saw: from MIN_ON_SCREEN after the task was painted, in a page that
// is in view. One that comes sooner was meant for the task before it, or is a finger that slipped; so are
// those that follow it as fast, or of "A, B, Enter" the last two would count.

// Choosing one of four keys takes people 350 to 500 ms from the sight of a sign that they wait for, and what
// is rated has to be read; a second press of the same impatience follows within 150 to 250 ms.
const MIN_ON_SCREEN = 400; // ms

class ScreenClock {
  // `painted`: called once the task is on screen, and again when the page comes back into view.
  constructor(painted) {
    this.painted = painted;
    this.spent = 0; // ms on screen, until the page last went out of view
    this.early = -Infinity; // when a press came too early
    this.start();
  }

  // A frame is painted once the next one begins; a page out of view has none.
  start() {
    this.since = null;
    this.frame = requestAnimationFrame(() => {
      this.frame = requestAnimationFrame(() => {
        this.since = performance.now();
        this.painted();
      });
    });
  }

  stop() {
    cancelAnimationFrame(this.frame);
    if (this.since !== null) this.spent += performance.now() - this.since;
    this.since = null;
  }

  // The page came into view, or went out of it.
  look() {
    this.stop();
    if (!document.hidden) this.start();
  }

  // Whether a press at `at`, as `event.timeStamp` has it, counts.
  takes(at) {
    if (this.since !== null && at - Math.max(this.since, this.early) >= MIN_ON_SCREEN) return true;
    this.early = at;
    return false;
  }

  seconds() {
    const now = this.since === null ? 0 : performance.now() - this.since;
    return Math.round((this.spent + now) / 10) / 100;
  }
}
