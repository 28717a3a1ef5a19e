// Tokens with their probabilities and alternatives, and the place where several answers diverge.

function formatPercent(logprob) {
  const share = 100 * Math.exp(logprob)
  if (share >= 99.95) return "100%"
  if (share < 0.1) return "<0.1%"
  return share < 10 ? `${share.toFixed(1)}%` : `${Math.round(share)}%`
}

const showWhitespace = (text) => (text === "" ? "∅" : text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·"))

function buildToken(token) {
  const [text, logprob, top] = token
  const node = element("span", { class: "token" }, text)
  if (logprob !== null) node.style.setProperty("--doubt", (1 - Math.exp(logprob)).toFixed(3))
  node.probabilities = { text, logprob, top }
  return node
}

// Return for each text the place of the first character in which it differs from another one.
function findDivergences(texts) {
  return texts.map((text, mine) => {
    const shared = texts.filter((_, other) => other !== mine).map((other) => {
      let place = 0
      while (place < text.length && place < other.length && text[place] === other[place]) place += 1
      return text === other ? Infinity : place
    })
    return Math.min(...shared)
  })
}

// Mark the token at which each answer diverges from the others, instead of the one marked before.
function markDivergence(answers) {
  const shown = answers.filter((answer) => answer.body && answer.tokens.length)
  if (shown.length < 2) return
  const places = findDivergences(shown.map((answer) => answer.text))
  shown.forEach((answer, number) => {
    let [length, here] = [0, null]
    for (const node of answer.body.children) {
      length += node.probabilities.text.length
      if (length > places[number]) { here = node; break }
    }
    if (answer.divergence === here) return
    if (answer.divergence) { answer.divergence.classList.remove("diverges"); answer.divergence.removeAttribute("title") }
    if (here) { here.classList.add("diverges"); here.title = "The answers differ from here on" }
    answer.divergence = here
  })
}

// The box next to the token under the pointer.
class ProbabilityBox {
  constructor() {
    this.shown = null
    this.box = element("div", { class: "tip", hidden: true })
  }

  point(target) {
    const node = target && target.probabilities ? target : null
    if (node === this.shown) return
    if (this.shown) this.shown.classList.remove("shown")
    this.shown = node
    this.box.hidden = !node
    if (!node) return
    node.classList.add("shown")
    this.fill(node.probabilities)
    const place = node.getBoundingClientRect()
    const size = this.box.getBoundingClientRect()
    const left = Math.max(8, Math.min(place.left, window.innerWidth - size.width - 8))
    const above = place.top - size.height - 6
    this.box.style.left = `${left}px`
    this.box.style.top = `${above > 8 ? above : place.bottom + 6}px`
  }

  fill({ text, logprob, top }) {
    if (logprob === null) {
      this.box.replaceChildren(element("div", {}, "The model reports no probability for this token."))
      return
    }
    const best = Math.max(logprob, ...top.map((other) => other[1]))
    const rows = top.map(([other, own]) => this.row(other, own, best, own === logprob && other === text))
    if (!rows.some((row) => row.classList.contains("own"))) rows.unshift(this.row(text, logprob, best, true))
    this.box.replaceChildren(element("div", { class: "muted" }, "Alternatives, by the model's probability"), ...rows)
  }

  row(text, logprob, best, own) {
    const level = element("span", { class: "level" })
    level.style.width = `${Math.max(1, 100 * Math.exp(logprob - Math.max(best, Math.log(1e-9))))}%`
    return element("div", { class: own ? "row own" : "row" }, element("code", {}, showWhitespace(text)), element("span", {}, level),
      element("span", { class: "share" }, formatPercent(logprob)))
  }
}
