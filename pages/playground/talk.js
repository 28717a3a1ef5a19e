// The conversation of the playground: turns, the answers of each model beside each other, and what is said next.
// All that people and models wrote gets into the page as text nodes alone, never as markup.

const STATES = new WeakMap() // one for each place in which the component stands

const MARKS = ["--st-blue-color", "--st-orange-color", "--st-green-color", "--st-violet-color"]

function make(tag, className, text) {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text !== undefined) node.textContent = text
  return node
}

function button(label, className, act, title) {
  const node = make("button", className, label)
  node.type = "button"
  node.onclick = act
  if (title) { node.title = title; node.setAttribute("aria-label", title) }
  return node
}

function percent(logprob) {
  const share = 100 * Math.exp(logprob)
  if (share >= 99.95) return "100%"
  if (share < 0.1) return "<0.1%"
  return share < 10 ? `${share.toFixed(1)}%` : `${Math.round(share)}%`
}

const visible = (text) => (text === "" ? "∅" : text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·"))

function figuresOf(answer) {
  const parts = []
  const { figures } = answer
  if (figures) {
    parts.push(`${figures.tokens.toLocaleString("en")} ${figures.tokens === 1 ? "token" : "tokens"}`)
    if (figures.tokens_per_second) parts.push(`${figures.tokens_per_second.toFixed(1)} tokens/s`)
    if (figures.first_token_seconds !== null) parts.push(`first after ${figures.first_token_seconds.toFixed(2)} s`)
  } else if (answer.tokens.length) {
    parts.push(`${answer.tokens.length.toLocaleString("en")} tokens`)
  }
  const ends = { length: "ended at max new tokens", stop: "ended at a stop string", stopped: "stopped" }
  if (ends[answer.reason]) parts.push(ends[answer.reason])
  return parts.join(" · ")
}

function tokenNode(token) {
  const [text, logprob, top] = token
  const node = make("span", "token", text)
  if (logprob !== null) node.style.setProperty("--doubt", (1 - Math.exp(logprob)).toFixed(3))
  node.chances = { text, logprob, top }
  return node
}

// Where the texts of several answers part: for each the place of the first character that another one hasn't.
function partings(texts) {
  return texts.map((text, mine) => {
    const shared = texts.filter((_, other) => other !== mine).map((other) => {
      let place = 0
      while (place < text.length && place < other.length && text[place] === other[place]) place += 1
      return text === other ? Infinity : place
    })
    return Math.min(...shared)
  })
}

class Talk {
  constructor(root) {
    this.root = root
    this.live = null // the turn that is being answered
    this.fork = null // {parent, number}: what is edited goes on from there
    this.shown = null // the token whose chances are shown
    this.build()
  }

  build() {
    this.frame = make("div", "frame")
    this.talk = make("div", "talk")
    this.bar = make("div", "bar")
    const label = make("label")
    this.tint = make("input")
    this.tint.type = "checkbox"
    this.tint.onchange = () => this.talk.classList.toggle("tinted", this.tint.checked)
    label.append(this.tint, document.createTextNode("Tint what the model was unsure of"))
    this.bar.append(label, make("span", "muted hint", "Point at a word to see its probability and what else might have come."))
    this.turns = make("div")
    this.composer = make("div", "composer")
    this.editing = make("div", "muted")
    this.input = make("textarea")
    this.input.setAttribute("aria-label", "What do you say?")
    this.input.dir = "auto"
    this.input.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.send() }
      event.stopPropagation() // Streamlit has shortcuts of its own
    }
    this.problem = make("div", "problem")
    this.problem.hidden = true
    this.problem.setAttribute("role", "alert")
    this.sendButton = button("Send", "main", () => this.send())
    this.stopButton = button("Stop", "", () => this.stop())
    const line = make("div", "send")
    const buttons = make("span", "side")
    buttons.append(this.stopButton, this.sendButton)
    line.append(make("span", "muted hint", "Enter sends, Shift+Enter makes a new line."), buttons)
    this.composer.append(this.editing, this.input, this.problem, line)
    this.tip = make("div", "tip")
    this.tip.hidden = true
    this.talk.append(this.bar, this.turns, this.composer, this.tip)
    this.frame.append(this.talk)
    this.root.replaceChildren(this.frame)
    const point = (event) => this.point(event.target)
    this.turns.onpointerover = point
    this.turns.onclick = point
    this.turns.onpointerleave = () => this.point(null)
  }

  // What Python knows: called at each rerun.
  show(data, setTriggerValue) {
    this.trigger = setTriggerValue
    const before = this.data
    this.data = data
    if (before && before.conversation !== data.conversation && before.conversation) { this.stop(); this.live = null; this.cancelFork() }
    if (this.live && this.live.ended && data.path.some((turn) => turn.turn === this.live.turn)) this.live = null
    this.input.placeholder = data.placeholder
    this.draw()
    if (data.say && data.say.id !== this.said) {
      this.said = data.say.id
      this.stream(data.say.prompt, data.say.parent)
    }
  }

  draw() {
    const { path, labels } = this.data
    this.bar.hidden = !path.length && !this.live
    const nodes = path.filter((turn) => !this.live || turn.turn !== this.live.turn).map((turn, place) => this.turnNode(turn, place))
    if (this.live) {
      const after = this.live.parent
      const cut = after === "" ? 0 : path.findIndex((turn) => turn.turn === after) + 1
      nodes.length = Math.min(nodes.length, cut)
      this.live.node ||= this.turnNode(this.live, nodes.length)
      nodes.push(this.live.node)
    }
    this.turns.replaceChildren(...nodes)
    const busy = Boolean(this.live && !this.live.ended)
    this.sendButton.disabled = busy || !labels.length || this.data.offline
    this.stopButton.hidden = !busy
    this.editing.hidden = !this.fork
  }

  turnNode(turn, place) {
    const node = make("section", "turn")
    const prompt = make("div", "prompt")
    const said = make("div", "said", turn.prompt)
    said.dir = "auto"
    const side = make("span", "side")
    if (turn.siblings && turn.siblings.length > 1) {
      const mine = turn.siblings.indexOf(turn.turn)
      const go = (step) => () => this.trigger("show", turn.siblings[mine + step])
      const back = button("‹", "bare", go(-1), "The version before")
      const on = button("›", "bare", go(1), "The next version")
      back.disabled = mine === 0
      on.disabled = mine === turn.siblings.length - 1
      side.append(back, make("span", "muted", `${mine + 1} of ${turn.siblings.length}`), on)
    }
    if (turn !== this.live) {
      side.append(button("Edit", "bare", () => this.edit(turn, place), "Say it differently: the conversation branches here"))
      side.append(button("Again", "bare", () => this.stream(turn.prompt, turn.parent), "Have it answered again"))
    }
    prompt.append(said, side)
    const answers = make("div", "answers")
    answers.style.setProperty("--columns", Math.max(1, turn.answers.length))
    turn.answers.forEach((answer) => answers.append(this.answerNode(turn, answer)))
    node.append(prompt, answers)
    this.markPartings(turn)
    return node
  }

  answerNode(turn, answer) {
    const node = make("article", "answer")
    node.style.setProperty("--mark", `var(${MARKS[answer.place % 4]})`)
    answer.body = make("div", "text")
    answer.body.dir = "auto"
    answer.tokens.forEach((token) => answer.body.append(tokenNode(token)))
    answer.notice = make("div", "notice")
    answer.failure = make("div", "problem")
    answer.figureLine = make("span", "figures")
    answer.keep = button("Keep or correct", "", () => this.trigger("keep", { turn: turn.turn, place: answer.place }),
      "Keep this as a test case, or correct it into a training row")
    const foot = make("div", "foot")
    foot.append(answer.figureLine, answer.keep)
    node.append(make("div", "model", answer.label), answer.body, answer.notice, answer.failure, foot)
    this.settle(answer)
    return node
  }

  // The lines around an answer's text, as they stand now.
  settle(answer) {
    const ended = Boolean(answer.reason)
    const text = answer.tokens.map((token) => token[0]).join("")
    answer.body.classList.toggle("working", !ended && !answer.waits)
    let notice = answer.waits || ""
    if (ended && answer.reason !== "failed" && !text.trim()) notice = "The answer is empty: the model ended it at once."
    else if (answer.leftOut) notice = `${answer.leftOut} earlier ${answer.leftOut === 1 ? "turn" : "turns"} without an answer: not part of what this model was asked.`
    answer.notice.textContent = notice
    answer.notice.hidden = !notice
    answer.failure.hidden = !answer.error
    if (answer.error) answer.failure.textContent = `${answer.error.message} ${answer.error.fix || ""}`
    answer.figureLine.textContent = ended ? figuresOf(answer) : ""
    answer.keep.hidden = !ended || answer.reason === "failed" || !this.data.kept
  }

  markPartings(turn) {
    const answers = turn.answers.filter((answer) => answer.body && answer.tokens.length)
    if (answers.length < 2) return
    const places = partings(answers.map((answer) => answer.tokens.map((token) => token[0]).join("")))
    answers.forEach((answer, number) => {
      let length = 0
      let marked = false
      for (const node of answer.body.children) {
        length += node.textContent.length
        const here = !marked && length > places[number]
        marked ||= here
        node.classList.toggle("parts", here)
        if (here) node.title = "From here on the answers differ"
        else node.removeAttribute("title")
      }
    })
  }

  edit(turn, place) {
    this.fork = { parent: turn.parent }
    this.editing.replaceChildren(
      make("span", "", `Turn ${place + 1} is said differently: a new branch; the old one stays. `),
      button("Leave it", "bare", () => this.cancelFork()),
    )
    this.editing.hidden = false
    this.input.value = turn.prompt
    this.input.focus()
  }

  cancelFork() {
    this.fork = null
    this.editing.hidden = true
    this.input.value = ""
  }

  complain(text) {
    this.problem.textContent = text
    this.problem.hidden = !text
  }

  send() {
    if (this.sendButton.disabled) return
    const prompt = this.input.value
    if (!prompt.trim()) { this.complain("Write something first."); return }
    this.complain("")
    const { path, conversation } = this.data
    if (!conversation) { this.sendButton.disabled = true; this.trigger("begin", prompt); this.input.value = ""; return }
    const parent = this.fork ? this.fork.parent : path.length ? path[path.length - 1].turn : ""
    this.stream(prompt, parent)
  }

  async stream(prompt, parent) {
    if (this.live && !this.live.ended) return
    this.complain("")
    const live = {
      turn: null, parent, prompt, ended: false, abort: new AbortController(),
      answers: this.data.labels.map((label, place) => ({ place, label, tokens: [], reason: null, figures: null, error: null })),
    }
    this.live = live
    this.draw()
    try {
      const response = await fetch(this.data.address, {
        method: "POST", headers: { "Content-Type": "application/json" }, signal: live.abort.signal,
        body: JSON.stringify({ conversation: this.data.conversation, prompt, parent }),
      })
      if (!response.ok) throw new Error(await reasonOf(response))
      this.cancelFork()
      await lines(response, (event) => this.take(live, event))
    } catch (error) {
      if (error.name !== "AbortError") this.fail(live, error.message)
    }
    this.end(live)
  }

  take(live, event) {
    if (event.type === "turn") { live.turn = event.turn; return }
    if (event.type === "alive") return
    if (event.type === "broken") { throw new Error(`${event.error.message} ${event.error.fix || ""}`) }
    const answer = live.answers[event.place]
    if (!answer) return
    if (event.type === "token") {
      const token = [event.text, event.logprob, event.top.map((other) => [other.text, other.logprob])]
      answer.tokens.push(token)
      answer.body.append(tokenNode(token))
      if (live.answers.length > 1) this.later(live)
      return
    }
    if (event.type === "waiting") answer.waits = `“${event.title}” has the machine. The answer begins when that is over; Stop, not to wait.`
    if (event.type === "loading") answer.waits = "Loading the model …"
    if (event.type === "begin") { answer.waits = ""; answer.leftOut = event.left_out }
    if (event.type === "end") { answer.waits = ""; answer.reason = event.reason; answer.figures = event.figures }
    if (event.type === "failed") { answer.waits = ""; answer.reason = "failed"; answer.error = event.error }
    this.settle(answer)
  }

  later(live) { // the mark is looked for once a picture, not once a token
    if (live.marking) return
    live.marking = true
    requestAnimationFrame(() => { live.marking = false; this.markPartings(live) })
  }

  fail(live, message) {
    if (live.turn) {
      live.answers.filter((answer) => !answer.reason).forEach((answer) => { answer.reason = "failed"; answer.error = { message } })
      return
    }
    this.complain(message) // it was refused before anything was kept: what was written stays
    if (!this.input.value) this.input.value = live.prompt
  }

  end(live) {
    live.ended = true
    live.answers.forEach((answer) => {
      answer.waits = ""
      answer.reason ||= "stopped"
      this.settle(answer)
    })
    this.markPartings(live)
    if (this.live === live && !live.turn) this.live = null
    this.draw()
    if (live.turn) this.trigger("done", live.turn)
  }

  stop() {
    if (this.live && !this.live.ended) this.live.abort.abort()
  }

  point(target) {
    const node = target && target.chances ? target : null
    if (node === this.shown) return
    if (this.shown) this.shown.classList.remove("shown")
    this.shown = node
    this.tip.hidden = !node
    if (!node) return
    node.classList.add("shown")
    const { text, logprob, top } = node.chances
    if (logprob === null) this.tip.replaceChildren(make("div", "", "No probability is known of this piece."))
    else {
      const best = Math.max(logprob, ...top.map((other) => other[1]))
      const rows = top.map(([other, chance]) => this.chance(other, chance, best, chance === logprob && other === text))
      if (!rows.some((row) => row.classList.contains("own"))) rows.unshift(this.chance(text, logprob, best, true))
      this.tip.replaceChildren(make("div", "muted", "What might have come here, by the model itself"), ...rows)
    }
    const place = node.getBoundingClientRect()
    const size = this.tip.getBoundingClientRect()
    const left = Math.max(8, Math.min(place.left, window.innerWidth - size.width - 8))
    const above = place.top - size.height - 6
    this.tip.style.left = `${left}px`
    this.tip.style.top = `${above > 8 ? above : place.bottom + 6}px`
  }

  chance(text, logprob, best, own) {
    const row = make("div", own ? "row own" : "row")
    const level = make("span", "level")
    level.style.width = `${Math.max(1, 100 * Math.exp(logprob - Math.max(best, Math.log(1e-9))))}%`
    const track = make("span")
    track.append(level)
    row.append(make("code", "", visible(text)), track, make("span", "share", percent(logprob)))
    return row
  }
}

async function reasonOf(response) {
  try {
    const error = await response.json()
    return `${error.message} ${error.fix || ""}`
  } catch {
    return `The screens answered with status ${response.status}. Load the page anew.`
  }
}

async function lines(response, take) {
  const reader = response.body.getReader()
  const decoder = new TextDecoder()
  let rest = ""
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    rest += decoder.decode(value, { stream: true })
    const whole = rest.split("\n")
    rest = whole.pop()
    for (const line of whole) if (line) take(JSON.parse(line))
  }
}

export default function (component) {
  const { parentElement, data, setTriggerValue } = component
  const root = parentElement.querySelector("#talk-root")
  if (!root) return
  let talk = STATES.get(parentElement)
  if (!talk || talk.root !== root) {
    talk = new Talk(root)
    STATES.set(parentElement, talk)
  }
  talk.show(data, setTriggerValue)
  return () => {
    talk.stop()
    STATES.delete(parentElement)
  }
}
