// Words that differ. Long lists of words are cut at words that stand once in each (patience), and what lies
// between two cuts is turned into the other with the fewest steps (Myers). Where that takes too many, the
// stretches have little in common and differ as a whole, which reads better than a sprinkle of commas.

const MAX_WORDS = 15_000; // of one text
const LONG_STRETCH = 1_000; // words of both, from where on it is cut first
const MAX_EDITS = 1_200; // words left out or put in, of one stretch

// Words, single signs of scripts that put no gaps between words, and marks.
const SIGN = "[\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}]";
const WORD = new RegExp(`${SIGN}|(?:(?!${SIGN})[\\p{L}\\p{M}\\p{N}])+|[^\\s\\p{L}\\p{M}\\p{N}]`, "gu");
const GAP_OR_WORD = new RegExp(`\\s+|${WORD.source}`, "gu");

// For each list, which of its words the other lacks at that place; null where a list is too long.
function differences(before, after) {
  if (Math.max(before.length, after.length) > MAX_WORDS) return null;
  const marks = [new Uint8Array(before.length).fill(1), new Uint8Array(after.length).fill(1)];
  const stretches = [[0, before.length, 0, after.length]];
  while (stretches.length) compare(before, after, stretches.pop(), marks, stretches);
  return marks;
}

function compare(before, after, [a, b, c, d], marks, stretches) {
  const same = (left, right) => { marks[0][left] = marks[1][right] = 0; };
  for (; a < b && c < d && before[a] === after[c]; a += 1, c += 1) same(a, c);
  for (; a < b && c < d && before[b - 1] === after[d - 1]; b -= 1, d -= 1) same(b - 1, d - 1);
  if (a === b || c === d) return;
  const isLong = b - a + d - c > LONG_STRETCH;
  const anchors = isLong ? rareInCommon(before, after, [a, b, c, d]) : [];
  if (anchors.length === 0) {
    fewestSteps(before, after, [a, b, c, d], same);
    return;
  }
  let [left, right] = [a, c];
  for (const [x, y] of anchors) {
    same(x, y);
    stretches.push([left, x, right, y]);
    [left, right] = [x + 1, y + 1];
  }
  stretches.push([left, b, right, d]);
}

// Words that stand once in each, as pairs of places that rise in both.
function rareInCommon(before, after, [a, b, c, d]) {
  const once = (words, from, to) => {
    const places = new Map();
    for (let place = from; place < to; place += 1) {
      places.set(words[place], places.has(words[place]) ? -1 : place);
    }
    return places;
  };
  const rights = once(after, c, d);
  const pairs = [];
  for (const [word, left] of once(before, a, b)) {
    const right = rights.get(word) ?? -1;
    if (left !== -1 && right !== -1) pairs.push([left, right]);
  }
  return longestRising(pairs.sort((one, other) => one[0] - other[0]));
}

function longestRising(pairs) {
  const ends = []; // place in `pairs` of the smallest end of a rising run of each length
  const previous = new Array(pairs.length);
  pairs.forEach(([, right], place) => {
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[ends[middle]][1] < right) low = middle + 1; else high = middle;
    }
    previous[place] = low > 0 ? ends[low - 1] : -1;
    ends[low] = place;
  });
  const run = [];
  for (let place = ends.at(-1) ?? -1; place !== -1; place = previous[place]) run.push(pairs[place]);
  return run.reverse();
}

// Myers' greedy search: after `steps` steps, `reached` has how far the first list is read on each diagonal.
// Nothing is the same where it would take more steps than may be.
function fewestSteps(before, after, [a, b, c, d], same) {
  const [width, height] = [b - a, d - c];
  const most = Math.min(width + height, MAX_EDITS);
  const reached = new Int32Array(2 * most + 3);
  const middle = most + 1;
  const trace = []; // what was reached before each step, from diagonal -steps - 1 on
  for (let steps = 0; steps <= most; steps += 1) {
    trace.push(reached.slice(middle - steps - 1, middle + steps + 2));
    for (let diagonal = -steps; diagonal <= steps; diagonal += 2) {
      const from = cameFrom(reached, middle, diagonal, steps);
      let left = reached[middle + from] + (from < diagonal ? 1 : 0);
      const isSame = () => before[a + left] === after[c + left - diagonal];
      while (left < width && left - diagonal < height && isSame()) left += 1;
      reached[middle + diagonal] = left;
      if (left >= width && left - diagonal >= height) {
        traceBack(trace, width, height, (x, y) => same(a + x, c + y));
        return;
      }
    }
  }
}

// The diagonal from which one steps on to this one: whichever has come further.
function cameFrom(reached, middle, diagonal, steps) {
  const down = diagonal === -steps
    || (diagonal !== steps && reached[middle + diagonal - 1] < reached[middle + diagonal + 1]);
  return down ? diagonal + 1 : diagonal - 1;
}

function traceBack(trace, left, right, same) {
  for (let steps = trace.length - 1; steps >= 0; steps -= 1) {
    const from = cameFrom(trace[steps], steps + 1, left - right, steps);
    const [leftBefore, rightBefore] = [trace[steps][steps + 1 + from], trace[steps][steps + 1 + from] - from];
    while (left > leftBefore && right > rightBefore) same(--left, --right);
    [left, right] = [leftBefore, rightBefore];
  }
}

// ---- in what is on the page ----

// Every word below `root` with its text node and place in it.
function wordsBelow(root) {
  const words = [];
  const places = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    if (walker.currentNode.parentElement.closest(".symbol")) continue;
    for (const match of walker.currentNode.data.matchAll(WORD)) {
      words.push(match[0]);
      places.push({ node: walker.currentNode, from: match.index, to: match.index + match[0].length });
    }
  }
  return { words, places };
}

// Mark in both elements the words that the other lacks. Returns why not, or "".
function markDifferences(first, second) {
  const sides = [first, second].map(wordsBelow);
  const marks = differences(sides[0].words, sides[1].words);
  if (!marks) return `One of the answers has more than ${plural(MAX_WORDS, "word")}: too long to compare.`;
  sides.forEach(({ places }, side) => markPlaces(places, marks[side]));
  if (marks.every((side) => !side.includes(1))) return "The two have the same words.";
  return "";
}

function markPlaces(places, differing) {
  const ranges = new Map(); // text node -> stretches of neighbouring words that differ
  let before = null;
  places.forEach((place, index) => {
    if (!differing[index]) { before = null; return; }
    if (before && before.node === place.node) { before.to = place.to; return; }
    before = { ...place };
    if (!ranges.has(place.node)) ranges.set(place.node, []);
    ranges.get(place.node).push(before);
  });
  for (const [node, stretches] of ranges) {
    const text = node.data;
    const parts = [];
    let from = 0;
    for (const stretch of stretches) {
      parts.push(text.slice(from, stretch.from), element("mark", {}, text.slice(stretch.from, stretch.to)));
      from = stretch.to;
    }
    node.replaceWith(...parts.filter((part) => part !== ""), text.slice(from));
  }
}

// A text and its correction as one, with what went and what came.
function correctionDiff(before, after) {
  const pieces = (text) => text.match(GAP_OR_WORD) ?? [];
  const [old, corrected] = [pieces(before), pieces(after)];
  const marks = differences(old, corrected);
  if (!marks) return [`The text has more than ${plural(MAX_WORDS, "word")}: too long to compare.`];
  const shownPieces = [];
  const run = (words, flags, place, tag) => {
    let end = place;
    while (end < words.length && flags[end]) end += 1;
    if (end > place) shownPieces.push(element(tag, {}, words.slice(place, end).join("")));
    return end;
  };
  let [left, right] = [0, 0];
  while (left < old.length || right < corrected.length) {
    left = run(old, marks[0], left, "del");
    right = run(corrected, marks[1], right, "ins");
    const from = left;
    const same = () => left < old.length && right < corrected.length && !marks[0][left] && !marks[1][right];
    for (; same(); left += 1) right += 1;
    if (left > from) shownPieces.push(old.slice(from, left).join(""));
    else if (!marks[0][left] && !marks[1][right]) break;
  }
  return shownPieces;
}
