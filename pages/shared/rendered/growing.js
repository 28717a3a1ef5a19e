// Markdown of a text that is still being written. Blocks that nothing to come can change stay as they are, so
// that each piece costs what its own block costs, however long the text has become; and texts come no faster
// than they can be drawn.

const UNSETTLED = 2; // blocks at the end: the last line may become part of the block before its own
const SHARE = 3; // of the time, at most one part in so many goes into drawing one text

class GrowingMarkdown {
  constructor() {
    this.root = element("div", { class: "text" });
    this.text = "";
    this.begins = []; // the line at which each block begins
    this.due = 0; // when it may be drawn again
    this.waiting = false;
  }

  // The text as it is now; drawn with the next picture, or as soon as there is time.
  grow(text) {
    this.next = text;
    if (this.waiting) return;
    this.waiting = true;
    const draw = () => {
      if (performance.now() < this.due) { requestAnimationFrame(draw); return; }
      this.waiting = false;
      this.show(this.next);
    };
    requestAnimationFrame(draw);
  }

  show(text) {
    const from = performance.now();
    this.next = text;
    const kept = text.startsWith(this.text) ? Math.max(0, this.begins.length - UNSETTLED) : 0;
    const line = kept ? this.begins[kept] : 0;
    this.begins.length = kept;
    while (this.root.childNodes.length > kept) this.root.lastChild.remove();
    this.root.append(...blocks(linesOf(text), 0, line, this.begins));
    this.text = text;
    this.root.classList.toggle("long", text.length > LONG);
    this.due = performance.now() + SHARE * (performance.now() - from);
  }
}
