// One answer: its head, its text as it is read or its tokens, and the lines below.
//
// It is shown in one of two ways. As text it is Markdown, and only that is built; as tokens each is an element
// of its own, with its probability. What is not shown costs nothing while an answer streams.

const COLOURS = ["--st-blue-color", "--st-orange-color", "--st-green-color", "--st-violet-color"]
const ENDS = { length: "ended at the token limit", stop: "ended at a stop string", stopped: "stopped" }

function figuresOf(answer) {
  const parts = []
  const { figures } = answer
  if (figures) {
    parts.push(plural(figures.tokens, "token"))
    if (figures.tokens_per_second) parts.push(`${figures.tokens_per_second.toFixed(1)} tokens/s`)
    if (figures.first_token_seconds !== null) parts.push(`first after ${figures.first_token_seconds.toFixed(2)} s`)
  } else if (answer.tokens.length) {
    parts.push(plural(answer.tokens.length, "token"))
  }
  if (ENDS[answer.reason]) parts.push(ENDS[answer.reason])
  return parts.join(" · ")
}

const LONG_PROMPT = 1200 // characters of what was said; of a longer one the beginning, and a way to the rest

// What was said, by show(text): a long one begins cut, with a button that counts what is hidden.
function folded(text, show) {
  const whole = Array.from(text)
  if (whole.length <= LONG_PROMPT) return show(text)
  const body = element("div", {}, show(`${whole.slice(0, LONG_PROMPT).join("")} …`))
  const hidden = whole.length - LONG_PROMPT
  const more = element("button", { type: "button", class: "bare", "aria-expanded": "false" }, `Show all: ${plural(hidden, "more character")}`)
  more.onclick = () => {
    const opens = more.getAttribute("aria-expanded") === "false"
    body.replaceChildren(show(opens ? text : `${whole.slice(0, LONG_PROMPT).join("")} …`))
    more.setAttribute("aria-expanded", String(opens))
    more.textContent = opens ? "Show less" : `Show all: ${plural(hidden, "more character")}`
  }
  return element("div", {}, body, more)
}

function unanswered(labels) {
  return labels.map((label, place) => ({ place, label, tokens: [], reason: null, figures: null, error: null }))
}

function inWords(seconds) {
  if (seconds < 90) return plural(Math.max(1, Math.round(seconds)), "second")
  return seconds < 5400 ? plural(Math.round(seconds / 60), "minute") : `${(seconds / 3600).toFixed(1)} hours`
}

function waitingFor({ title, seconds_left: left }) {
  const time = left === null ? "" : `, by its own count for about ${inWords(left)} more`
  return `“${title}” has the machine${time}. The answer begins when that is over; Stop, not to wait.`
}

// keep: called by its button.
function answerNode(answer, asTokens, keep) {
  answer.text = answer.tokens.map((token) => token[0]).join("")
  answer.parting = null
  answer.growing = asTokens ? null : new GrowingMarkdown()
  answer.growing?.show(answer.text)
  answer.body = answer.growing?.root ?? element("div", { class: "tokens", dir: "auto" }, answer.tokens.map(tokenNode))
  answer.notice = element("div", { class: "notice" })
  answer.failure = element("div", { class: "problem" })
  answer.figureLine = element("span", { class: "figures" })
  answer.keep = textButton("Keep or correct", "", keep, "Keep this as a test case, or correct it into a training row")
  const node = element("article", { class: "answer" }, element("div", { class: "model" }, answer.label), answer.body,
    answer.notice, answer.failure, element("div", { class: "foot" }, answer.figureLine, answer.keep))
  node.style.setProperty("--mark", `var(${COLOURS[answer.place % COLOURS.length]})`)
  return node
}

function addToken(answer, token) {
  answer.tokens.push(token)
  answer.text += token[0]
  if (answer.growing) answer.growing.grow(answer.text)
  else answer.body.append(tokenNode(token))
}

// The lines around an answer's text, as they stand now.
function settle(answer, mayKeep) {
  const ended = Boolean(answer.reason)
  answer.body.classList.toggle("working", !ended && !answer.waits)
  let notice = answer.waits || ""
  if (ended && answer.reason !== "failed" && !answer.text.trim()) notice = "The answer is empty: the model ended it at once."
  else if (answer.leftOut) notice = `${plural(answer.leftOut, "earlier turn")} without an answer: not part of what this model was asked.`
  answer.notice.textContent = notice
  answer.notice.hidden = !notice
  answer.failure.hidden = !answer.error
  if (answer.error) answer.failure.textContent = `${answer.error.message} ${answer.error.fix || ""}`
  answer.figureLine.textContent = ended ? figuresOf(answer) : ""
  answer.keep.hidden = !ended || answer.reason === "failed" || !mayKeep
}
