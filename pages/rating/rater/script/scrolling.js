// Answers that scroll together, answers that lie side by side under a finger, and a bar that takes a swipe.

// The keys scroll all answers by shares of their length, so that their ends come together.
function scrollTogether(bodies, pixels) {
  const longest = Math.max(0, ...bodies.map(room));
  if (longest === 0) {
    scroller(bodies[0])?.scrollBy({ top: pixels });
    return;
  }
  const leading = bodies.find((body) => room(body) === longest);
  const share = clamp((leading.scrollTop + pixels) / longest);
  for (const body of bodies) body.scrollTop = share * room(body);
}

function room(body) {
  return body.scrollHeight - body.clientHeight;
}

function clamp(share) {
  return Math.max(0, Math.min(1, share));
}

// What scrolls around the component, across the border of its shadow.
function scroller(inner) {
  const scrolls = (outer) => room(outer) > 1 && /auto|scroll/.test(getComputedStyle(outer).overflowY);
  let outer = inner?.getRootNode().host ?? null;
  while (outer && !scrolls(outer)) outer = outer.parentElement;
  return outer;
}

// Where `linked()` says so, an answer that is scrolled by hand takes the others along.
function linkScrolling(bodies, linked) {
  let led = null; // the answer that the person scrolls; the others only follow
  for (const body of bodies) {
    for (const kind of ["pointerenter", "pointerdown", "focusin", "wheel", "touchstart"]) {
      body.addEventListener(kind, () => { led = body; }, { passive: true });
    }
    body.addEventListener("scroll", () => {
      if (!linked() || led !== body || room(body) === 0) return;
      const share = body.scrollTop / room(body);
      for (const other of bodies) if (other !== body) other.scrollTop = share * room(other);
    }, { passive: true });
  }
}

const SWIPE = 64; // pixels to the side, and less than half as far up or down

// On the bar alone, where nobody reads or scrolls.
function takeSwipes(bar, swiped) {
  let start = null;
  bar.addEventListener("touchstart", (event) => {
    start = event.touches.length === 1 ? { x: event.touches[0].clientX, y: event.touches[0].clientY } : null;
  }, { passive: true });
  bar.addEventListener("touchend", (event) => {
    if (!start) return;
    const across = event.changedTouches[0].clientX - start.x;
    const along = event.changedTouches[0].clientY - start.y;
    start = null;
    const isAcross = Math.abs(across) >= SWIPE && Math.abs(along) < Math.abs(across) / 2;
    if (isAcross) swiped(across < 0 ? "left" : "right");
  }, { passive: true });
}
