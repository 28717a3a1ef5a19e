// The conversation of the playground: turns, the answers of each model beside each other, and what is said next.
// All that people and models wrote gets into the page as text nodes alone, never as markup.

const STATES = new WeakMap() // one for each place in which the component stands

const VIEW = "tunebench-playground-view" // in the browser's own storage: whether answers are shown as tokens

function textButton(label, className, onclick, title) {
  return element("button", { type: "button", class: className || null, title, "aria-label": title, onclick }, label)
}

class Talk {
  constructor(root) {
    this.root = root
    this.live = null // the turn that is being answered
    this.fork = null // {parent, number}: what is edited goes on from there
    this.asTokens = false
    try { this.asTokens = localStorage.getItem(VIEW) === "tokens" } catch { /* a browser that keeps nothing */ }
    this.build()
  }

  build() {
    this.tint = element("input", { type: "checkbox" })
    this.tint.onchange = () => this.talk.classList.toggle("tinted", this.tint.checked)
    this.ofTokens = element("span", { class: "of-tokens" },
      element("label", {}, this.tint, "Tint what the model was unsure of"),
      element("span", { class: "muted hint" }, "Point at a word to see its probability and what else might have come."))
    this.views = [["Text", false], ["Tokens", true]].map(([label, asTokens]) => {
      const node = textButton(label, "", () => this.view(asTokens))
      node.asTokens = asTokens
      return node
    })
    this.bar = element("div", { class: "bar" },
      element("span", { class: "views", role: "group", "aria-label": "How answers are shown" }, this.views), this.ofTokens)
    this.turns = element("div")
    this.chances = new Chances()
    this.talk = element("div", { class: "talk" }, this.bar, this.turns, this.composerNode(), this.chances.box)
    this.root.replaceChildren(element("div", { class: "frame" }, this.talk))
    const point = (event) => this.chances.point(event.target)
    this.turns.onpointerover = point
    this.turns.onclick = point
    this.turns.onpointerleave = () => this.chances.point(null)
  }

  composerNode() {
    this.editing = element("div", { class: "muted", hidden: true })
    this.input = element("textarea", { "aria-label": "What do you say?", dir: "auto" })
    this.input.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.send() }
      event.stopPropagation() // Streamlit has shortcuts of its own
    }
    this.problem = element("div", { class: "problem", hidden: true, role: "alert" })
    this.sendButton = textButton("Send", "main", () => this.send())
    this.stopButton = textButton("Stop", "", () => this.stop())
    return element("div", { class: "composer" }, this.editing, this.input, this.problem, element("div", { class: "send" },
      element("span", { class: "muted hint" }, "Enter sends, Shift+Enter makes a new line."),
      element("span", { class: "side" }, this.stopButton, this.sendButton)))
  }

  // Text, as it is read, or tokens with their probabilities; the next visit begins so too.
  view(asTokens) {
    this.asTokens = asTokens
    try { localStorage.setItem(VIEW, asTokens ? "tokens" : "text") } catch { /* a browser that keeps nothing */ }
    this.chances.point(null)
    if (this.live) this.live.node = null
    this.draw()
  }

  // What Python knows: called at each rerun.
  show(data, setTriggerValue) {
    this.trigger = setTriggerValue
    const before = this.data
    this.data = data
    if (before && before.conversation !== data.conversation && before.conversation) { this.leave(); this.cancelFork() }
    if (this.live && this.live.ended && data.path.some((turn) => turn.turn === this.live.turn)) this.live = null
    this.input.placeholder = data.placeholder
    this.draw()
    if (data.say && data.say.id !== this.said) {
      this.said = data.say.id
      this.stream(data.say.prompt, data.say.parent)
    } else if (data.answering && !this.live) {
      this.follow(data.answering)
    }
  }

  draw() {
    const { path, labels } = this.data
    this.bar.hidden = !path.length && !this.live
    this.ofTokens.hidden = !this.asTokens
    this.views.forEach((node) => node.setAttribute("aria-pressed", String(node.asTokens === this.asTokens)))
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
    const said = folded(turn.prompt,
      (text) => this.asTokens ? element("div", { class: "plain", dir: "auto" }, text) : textElement(text))
    const side = element("span", { class: "side" }, this.versionButtons(turn))
    if (turn !== this.live) {
      side.append(textButton("Edit", "bare", () => this.edit(turn, place), "Say it differently: the conversation branches here"))
      side.append(textButton("Again", "bare", () => this.stream(turn.prompt, turn.parent), "Have it answered again"))
    }
    const answers = element("div", { class: "answers" }, turn.answers.map((answer) => {
      const keep = () => this.trigger("keep", { turn: turn.turn, place: answer.place })
      return answerNode(answer, this.asTokens, keep)
    }))
    answers.style.setProperty("--columns", Math.max(1, turn.answers.length))
    turn.answers.forEach((answer) => settle(answer, this.data.kept))
    if (!turn.answers.length && turn !== this.live) answers.append(element("div", { class: "notice" }, "The engine ended before anything of an answer was kept. Again has it answered."))
    if (this.asTokens) markPartings(turn.answers)
    return element("section", { class: "turn" },
      element("div", { class: "prompt" }, element("div", { class: "said" }, said), side), answers)
  }

  // Where a turn was said in several ways: which of them this is, and the ways to the others.
  versionButtons(turn) {
    if (!turn.siblings || turn.siblings.length < 2) return []
    const mine = turn.siblings.indexOf(turn.turn)
    const go = (step) => () => this.trigger("show", turn.siblings[mine + step])
    const back = textButton("‹ Before", "bare", go(-1), "The version before")
    const on = textButton("Next ›", "bare", go(1), "The next version")
    back.disabled = mine === 0
    on.disabled = mine === turn.siblings.length - 1
    return [back, element("span", { class: "muted" }, `${mine + 1} of ${turn.siblings.length}`), on]
  }

  edit(turn, place) {
    this.fork = { parent: turn.parent }
    this.editing.replaceChildren(
      `Turn ${place + 1} is said differently: a new branch; the old one stays. `,
      textButton("Leave it", "bare", () => this.cancelFork()),
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

  stream(prompt, parent) {
    if (this.live && !this.live.ended) return
    this.complain("")
    this.read({ turn: null, parent, prompt, answers: unanswered(this.data.labels) },
      { conversation: this.data.conversation, prompt, parent })
  }

  // A turn that is being answered, whoever asked: all that came so far, and what comes.
  follow(turn) {
    const { parent, prompt, siblings } = this.data.path.find((place) => place.turn === turn)
    this.read({ turn, parent, prompt, siblings, answers: [] }, { follow: turn })
  }

  async read(live, body) {
    Object.assign(live, { ended: false, left: false, stops: false, reading: new AbortController() })
    this.live = live
    this.draw()
    try {
      const response = await post(this.data.address, body, live.reading.signal)
      if (body.prompt) this.cancelFork()
      await eachLine(response, (event) => this.take(live, event))
    } catch (error) {
      if (!live.left) this.fail(live, error.message)
    }
    if (!live.left) this.end(live)
  }

  take(live, event) {
    if (event.type === "turn") { this.known(live, event); return }
    if (event.type === "alive") return
    if (event.type === "broken") { throw new Error(`${event.error.message} ${event.error.fix || ""}`) }
    const answer = live.answers[event.place]
    if (!answer) return
    if (event.type === "token") {
      addToken(answer, [event.text, event.logprob, event.top.map((other) => [other.text, other.logprob])])
      if (this.asTokens && live.answers.length > 1) this.later(live)
      return
    }
    if (event.type === "waiting") answer.waits = waitingFor(event)
    if (event.type === "loading") answer.waits = "Loading the model …"
    if (event.type === "begin") { answer.waits = ""; answer.leftOut = event.left_out }
    if (event.type === "end") { answer.waits = ""; answer.reason = event.reason; answer.figures = event.figures || null }
    if (event.type === "failed") { answer.waits = ""; answer.reason = "failed"; answer.error = event.error }
    settle(answer, this.data.kept)
  }

  // The turn is stored, and answered whoever reads.
  known(live, { turn, labels }) {
    live.turn = turn
    if (!live.answers.length) { live.answers = unanswered(labels); live.node = null; this.draw() }
    if (live.stops) this.stop()
  }

  later(live) { // the mark is looked for once a picture, not once a token
    if (live.marking) return
    live.marking = true
    requestAnimationFrame(() => { live.marking = false; if (this.asTokens) markPartings(live.answers) })
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
      settle(answer, this.data.kept)
    })
    if (this.asTokens) markPartings(live.answers)
    // A turn that had ended before it was followed brings nothing: what is stored of it is drawn.
    if (this.live === live && (!live.turn || !live.answers.length)) this.live = null
    this.draw()
    if (live.turn) this.trigger("done", live.turn)
  }

  // End the answer, for all who read along; it says itself that it has ended.
  async stop() {
    const { live } = this
    if (!live || live.ended) return
    live.stops = true // as soon as its turn is known
    if (!live.turn) return
    try {
      await post(this.data.stopAddress, { turn: live.turn })
    } catch (error) {
      this.complain(error.message)
    }
  }

  // Read no more; the answer goes on without a reader, and is there when somebody comes back.
  leave() {
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
  let talk = STATES.get(parentElement)
  if (!talk || talk.root !== root) {
    talk = new Talk(root)
    STATES.set(parentElement, talk)
  }
  talk.show(data, setTriggerValue)
  return () => {
    talk.leave()
    STATES.delete(parentElement)
  }
}
