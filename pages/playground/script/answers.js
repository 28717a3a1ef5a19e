// One answer: its model, its text or its tokens, and the lines below.
//
// In the text view it is Markdown, and only that is built; in the token view each token is an element with its
// probability. The view that is hidden costs nothing while an answer streams.

const COLORS = ["--st-blue-color", "--st-orange-color", "--st-green-color", "--st-violet-color"]
const END_REASONS = { length: "ended at the token limit", stop: "ended at a stop string", stopped: "stopped" }

function describeFigures(answer) {
  const parts = []
  const { figures } = answer
  if (figures) {
    parts.push(plural(figures.tokens, "token"))
    if (figures.tokens_per_second) parts.push(`${figures.tokens_per_second.toFixed(1)} tokens/s`)
    if (figures.first_token_seconds !== null) parts.push(`first after ${figures.first_token_seconds.toFixed(2)} s`)
  } else if (answer.tokens.length) {
    parts.push(plural(answer.tokens.length, "token"))
  }
  if (END_REASONS[answer.reason]) parts.push(END_REASONS[answer.reason])
  return parts.join(" · ")
}

const MAX_PROMPT = 1200 // characters of a message that are shown before it is expanded

// Render a message with show(text); a long one is collapsed, with a button that names the number of hidden characters.
function renderFolded(text, show) {
  const whole = Array.from(text)
  if (whole.length <= MAX_PROMPT) return show(text)
  const body = element("div", {}, show(`${whole.slice(0, MAX_PROMPT).join("")} …`))
  const hidden = whole.length - MAX_PROMPT
  const more = element("button", { type: "button", class: "bare", "aria-expanded": "false" }, `Show all: ${plural(hidden, "more character")}`)
  more.onclick = () => {
    const opens = more.getAttribute("aria-expanded") === "false"
    body.replaceChildren(show(opens ? text : `${whole.slice(0, MAX_PROMPT).join("")} …`))
    more.setAttribute("aria-expanded", String(opens))
    more.textContent = opens ? "Show less" : `Show all: ${plural(hidden, "more character")}`
  }
  return element("div", {}, body, more)
}

function buildEmptyAnswers(labels) {
  return labels.map((label, place) => ({ place, label, tokens: [], reason: null, figures: null, error: null }))
}

function formatWait(seconds) {
  if (seconds < 90) return plural(Math.max(1, Math.round(seconds)), "second")
  return seconds < 5400 ? plural(Math.round(seconds / 60), "minute") : `${(seconds / 3600).toFixed(1)} hours`
}

function describeWait({ title, seconds_left: left }) {
  const time = left === null ? "" : `, for an estimated ${formatWait(left)} more`
  return `“${title}” is using the machine${time}. The answer starts when it ends. Stop cancels the wait.`
}

// keep: called by the button that saves the answer.
function buildAnswer(answer, asTokens, keep) {
  answer.text = answer.tokens.map((token) => token[0]).join("")
  answer.divergence = null
  answer.growing = asTokens ? null : new GrowingMarkdown()
  answer.growing?.show(answer.text)
  answer.body = answer.growing?.root ?? element("div", { class: "tokens", dir: "auto" }, answer.tokens.map(buildToken))
  answer.notice = element("div", { class: "notice" })
  answer.failure = element("div", { class: "problem" })
  answer.figureLine = element("span", { class: "figures" })
  answer.keep = textButton("Save or correct", "", keep, "Save it as a test case, or correct it into a training row")
  const node = element("article", { class: "answer" }, element("div", { class: "model" }, answer.label), answer.body,
    answer.notice, answer.failure, element("div", { class: "foot" }, answer.figureLine, answer.keep))
  node.style.setProperty("--mark", `var(${COLORS[answer.place % COLORS.length]})`)
  return node
}

function addToken(answer, token) {
  answer.tokens.push(token)
  answer.text += token[0]
  if (answer.growing) answer.growing.grow(answer.text)
  else answer.body.append(buildToken(token))
}

// Update the lines around an answer's text.
function updateAnswer(answer, mayKeep) {
  const ended = Boolean(answer.reason)
  answer.body.classList.toggle("working", !ended && !answer.waits)
  let notice = answer.waits || ""
  if (ended && answer.reason !== "failed" && !answer.text.trim()) notice = "Empty answer: the model ended it immediately."
  else if (answer.leftOut) notice = `${plural(answer.leftOut, "earlier turn")} without an answer left out of this model's prompt.`
  answer.notice.textContent = notice
  answer.notice.hidden = !notice
  answer.failure.hidden = !answer.error
  if (answer.error) answer.failure.textContent = `${answer.error.message} ${answer.error.fix || ""}`
  answer.figureLine.textContent = ended ? describeFigures(answer) : ""
  answer.keep.hidden = !ended || answer.reason === "failed" || !mayKeep
}
