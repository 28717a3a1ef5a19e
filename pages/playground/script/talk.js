// The conversation of the playground: turns, the answers of each model side by side, and the next message.
// Text of people and models is inserted as text nodes only, never as markup.

const MOUNTED = new WeakMap() // the conversation of each mounted component

const VIEW_KEY = "tunebench-playground-view" // in localStorage: whether answers are shown as tokens

function textButton(label, className, onclick, title) {
  return element("button", { type: "button", class: className || null, title, "aria-label": title, onclick }, label)
}

class Talk {
  constructor(root) {
    this.root = root
    this.live = null // the turn being answered
    this.fork = null // {parent}: the turn after which an edited message branches off
    this.asTokens = false
    try { this.asTokens = localStorage.getItem(VIEW_KEY) === "tokens" } catch { /* storage is off */ }
    this.build()
  }

  build() {
    this.tint = element("input", { type: "checkbox" })
    this.tint.onchange = () => this.talk.classList.toggle("tinted", this.tint.checked)
    this.tokenControls = element("span", { class: "of-tokens" },
      element("label", {}, this.tint, "Highlight uncertain tokens"),
      element("span", { class: "muted hint" }, "Point at a token to see its probability and alternatives."))
    this.views = [["Text", false], ["Tokens", true]].map(([label, asTokens]) => {
      const node = textButton(label, "", () => this.setView(asTokens))
      node.asTokens = asTokens
      return node
    })
    this.bar = element("div", { class: "bar" },
      element("span", { class: "views", role: "group", "aria-label": "Answer view" }, this.views), this.tokenControls)
    this.turns = element("div")
    this.probabilities = new ProbabilityBox()
    this.talk = element("div", { class: "talk" }, this.bar, this.turns, this.buildComposer(), this.probabilities.box)
    this.root.replaceChildren(element("div", { class: "frame" }, this.talk))
    const point = (event) => this.probabilities.point(event.target)
    this.turns.onpointerover = point
    this.turns.onclick = point
    this.turns.onpointerleave = () => this.probabilities.point(null)
  }

  buildComposer() {
    this.editing = element("div", { class: "muted", hidden: true })
    this.input = element("textarea", { "aria-label": "Message", dir: "auto" })
    this.input.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.send() }
      event.stopPropagation() // Streamlit has its own shortcuts
    }
    this.problem = element("div", { class: "problem", hidden: true, role: "alert" })
    this.sendButton = textButton("Send", "main", () => this.send())
    this.stopButton = textButton("Stop", "", () => this.stop())
    return element("div", { class: "composer" }, this.editing, this.input, this.problem, element("div", { class: "send" },
      element("span", { class: "muted hint" }, "Enter sends, Shift+Enter adds a line."),
      element("span", { class: "side" }, this.stopButton, this.sendButton)))
  }

  // Show rendered text, or tokens with their probabilities; remembered for the next visit.
  setView(asTokens) {
    this.asTokens = asTokens
    try { localStorage.setItem(VIEW_KEY, asTokens ? "tokens" : "text") } catch { /* storage is off */ }
    this.probabilities.point(null)
    if (this.live) this.live.node = null
    this.draw()
  }

  // Called at each rerun with the data from Python.
  show(data, setTriggerValue) {
    this.trigger = setTriggerValue
    const before = this.data
    this.data = data
    if (before && before.conversation !== data.conversation && before.conversation) { this.detach(); this.cancelFork() }
    if (this.live && this.live.ended && data.path.some((turn) => turn.turn === this.live.turn)) this.live = null
    this.input.placeholder = data.placeholder
    this.draw()
    if (data.say && data.say.id !== this.sentId) {
      this.sentId = data.say.id
      this.stream(data.say.prompt, data.say.parent)
    } else if (data.answering && !this.live) {
      this.follow(data.answering)
    }
  }

  draw() {
    const { path, labels } = this.data
    this.bar.hidden = !path.length && !this.live
    this.tokenControls.hidden = !this.asTokens
    this.views.forEach((node) => node.setAttribute("aria-pressed", String(node.asTokens === this.asTokens)))
    const nodes = path.filter((turn) => !this.live || turn.turn !== this.live.turn).map((turn, place) => this.buildTurn(turn, place))
    if (this.live) {
      const after = this.live.parent
      const cut = after === "" ? 0 : path.findIndex((turn) => turn.turn === after) + 1
      nodes.length = Math.min(nodes.length, cut)
      this.live.node ||= this.buildTurn(this.live, nodes.length)
      nodes.push(this.live.node)
    }
    this.turns.replaceChildren(...nodes)
    const busy = Boolean(this.live && !this.live.ended)
    this.sendButton.disabled = busy || !labels.length || this.data.offline
    this.stopButton.hidden = !busy
    this.editing.hidden = !this.fork
  }

  buildTurn(turn, place) {
    const message = renderFolded(turn.prompt,
      (text) => this.asTokens ? element("div", { class: "plain", dir: "auto" }, text) : textElement(text))
    const side = element("span", { class: "side" }, this.buildVersionButtons(turn))
    if (turn !== this.live) {
      side.append(textButton("Edit", "bare", () => this.edit(turn, place), "Edit the message in a new branch"))
      side.append(textButton("Regenerate", "bare", () => this.stream(turn.prompt, turn.parent), "Regenerate the answers"))
    }
    const answers = element("div", { class: "answers" }, turn.answers.map((answer) => {
      const keep = () => this.trigger("keep", { turn: turn.turn, place: answer.place })
      return buildAnswer(answer, this.asTokens, keep)
    }))
    answers.style.setProperty("--columns", Math.max(1, turn.answers.length))
    turn.answers.forEach((answer) => updateAnswer(answer, this.data.kept))
    if (!turn.answers.length && turn !== this.live) answers.append(element("div", { class: "notice" }, "The engine stopped before any part of an answer was saved. Regenerate it to get one."))
    if (this.asTokens) markDivergence(turn.answers)
    return element("section", { class: "turn" },
      element("div", { class: "prompt" }, element("div", { class: "message" }, message), side), answers)
  }

  // The number of this version of a message, with buttons for the other versions.
  buildVersionButtons(turn) {
    if (!turn.siblings || turn.siblings.length < 2) return []
    const mine = turn.siblings.indexOf(turn.turn)
    const go = (step) => () => this.trigger("show", turn.siblings[mine + step])
    const back = textButton("‹ Previous", "bare", go(-1), "Previous version")
    const on = textButton("Next ›", "bare", go(1), "Next version")
    back.disabled = mine === 0
    on.disabled = mine === turn.siblings.length - 1
    return [back, element("span", { class: "muted" }, `${mine + 1} of ${turn.siblings.length}`), on]
  }

  edit(turn, place) {
    this.fork = { parent: turn.parent }
    this.editing.replaceChildren(
      `You are editing message ${place + 1}. Sending it starts a new branch; the old one stays. `,
      textButton("Cancel", "bare", () => this.cancelFork()),
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

  showProblem(text) {
    this.problem.textContent = text
    this.problem.hidden = !text
  }

  send() {
    if (this.sendButton.disabled) return
    const prompt = this.input.value
    if (!prompt.trim()) { this.showProblem("Write a message first."); return }
    this.showProblem("")
    const { path, conversation } = this.data
    if (!conversation) { this.sendButton.disabled = true; this.trigger("begin", prompt); this.input.value = ""; return }
    const parent = this.fork ? this.fork.parent : path.length ? path[path.length - 1].turn : ""
    this.stream(prompt, parent)
  }

  stream(prompt, parent) {
    if (this.live && !this.live.ended) return
    this.showProblem("")
    this.read({ turn: null, parent, prompt, answers: buildEmptyAnswers(this.data.labels) },
      { conversation: this.data.conversation, prompt, parent })
  }

  // Read a turn being answered for any tab: its tokens so far, and those to come.
  follow(turn) {
    const { parent, prompt, siblings } = this.data.path.find((place) => place.turn === turn)
    this.read({ turn, parent, prompt, siblings, answers: [] }, { follow: turn })
  }

  async read(live, body) {
    Object.assign(live, { ended: false, left: false, stops: false, reading: new AbortController() })
    this.live = live
    this.draw()
    try {
      const response = await postJson(this.data.address, body, live.reading.signal)
      if (body.prompt) this.cancelFork()
      await readLines(response, (event) => this.take(live, event))
    } catch (error) {
      if (!live.left) this.fail(live, error.message)
    }
    if (!live.left) this.end(live)
  }

  take(live, event) {
    if (event.type === "turn") { this.setTurn(live, event); return }
    if (event.type === "alive") return
    if (event.type === "broken") { throw new Error(`${event.error.message} ${event.error.fix || ""}`) }
    const answer = live.answers[event.place]
    if (!answer) return
    if (event.type === "token") {
      addToken(answer, [event.text, event.logprob, event.top.map((other) => [other.text, other.logprob])])
      if (this.asTokens && live.answers.length > 1) this.scheduleMark(live)
      return
    }
    if (event.type === "waiting") answer.waits = describeWait(event)
    if (event.type === "loading") answer.waits = "Loading the model …"
    if (event.type === "begin") { answer.waits = ""; answer.leftOut = event.left_out }
    if (event.type === "end") { answer.waits = ""; answer.reason = event.reason; answer.figures = event.figures || null }
    if (event.type === "failed") { answer.waits = ""; answer.reason = "failed"; answer.error = event.error }
    updateAnswer(answer, this.data.kept)
  }

  // The turn is stored, and will be answered even without a reader.
  setTurn(live, { turn, labels }) {
    live.turn = turn
    if (!live.answers.length) { live.answers = buildEmptyAnswers(labels); live.node = null; this.draw() }
    if (live.stops) this.stop()
  }

  scheduleMark(live) { // once per frame, not per token
    if (live.marking) return
    live.marking = true
    requestAnimationFrame(() => { live.marking = false; if (this.asTokens) markDivergence(live.answers) })
  }

  fail(live, message) {
    if (live.turn) {
      live.answers.filter((answer) => !answer.reason).forEach((answer) => { answer.reason = "failed"; answer.error = { message } })
      return
    }
    this.showProblem(message) // refused before it was stored: the message stays in the field
    if (!this.input.value) this.input.value = live.prompt
  }

  end(live) {
    live.ended = true
    live.answers.forEach((answer) => {
      answer.waits = ""
      answer.reason ||= "stopped"
      updateAnswer(answer, this.data.kept)
    })
    if (this.asTokens) markDivergence(live.answers)
    // A turn that ended before it was followed streams nothing: its stored answers are drawn.
    if (this.live === live && (!live.turn || !live.answers.length)) this.live = null
    this.draw()
    if (live.turn) this.trigger("done", live.turn)
  }

  // Stop the answer for all readers; the stream reports its end.
  async stop() {
    const { live } = this
    if (!live || live.ended) return
    live.stops = true // sent once its turn is known
    if (!live.turn) return
    try {
      await postJson(this.data.stopAddress, { turn: live.turn })
    } catch (error) {
      this.showProblem(error.message)
    }
  }

  // Stop reading; the answer continues without a reader.
  detach() {
    if (!this.live) return
    this.live.left = true
    this.live.reading.abort()
    this.live = null
  }
}

export default function (component) {
  const { parentElement, data, setTriggerValue } = component
  const root = parentElement.querySelector("#talk-root")
  if (!root) return
  let talk = MOUNTED.get(parentElement)
  if (!talk || talk.root !== root) {
    talk = new Talk(root)
    MOUNTED.set(parentElement, talk)
  }
  talk.show(data, setTriggerValue)
  return () => {
    talk.detach()
    MOUNTED.delete(parentElement)
  }
}
