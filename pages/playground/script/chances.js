// Tokens: how likely each was, what else might have come, and where the texts of several answers part.

function percent(logprob) {
  const share = 100 * Math.exp(logprob)
  if (share >= 99.95) return "100%"
  if (share < 0.1) return "<0.1%"
  return share < 10 ? `${share.toFixed(1)}%` : `${Math.round(share)}%`
}

const visible = (text) => (text === "" ? "∅" : text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·"))

function tokenNode(token) {
  const [text, logprob, top] = token
  const node = element("span", { class: "token" }, text)
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

// Mark in the tokens of these answers where they part; the mark of before goes.
function markPartings(answers) {
  const shown = answers.filter((answer) => answer.body && answer.tokens.length)
  if (shown.length < 2) return
  const places = partings(shown.map((answer) => answer.text))
  shown.forEach((answer, number) => {
    let [length, here] = [0, null]
    for (const node of answer.body.children) {
      length += node.chances.text.length
      if (length > places[number]) { here = node; break }
    }
    if (answer.parting === here) return
    if (answer.parting) { answer.parting.classList.remove("parts"); answer.parting.removeAttribute("title") }
    if (here) { here.classList.add("parts"); here.title = "From here on the answers differ" }
    answer.parting = here
  })
}

// The box beside a token that one points at.
class Chances {
  constructor() {
    this.shown = null
    this.box = element("div", { class: "tip", hidden: true })
  }

  point(target) {
    const node = target && target.chances ? target : null
    if (node === this.shown) return
    if (this.shown) this.shown.classList.remove("shown")
    this.shown = node
    this.box.hidden = !node
    if (!node) return
    node.classList.add("shown")
    this.fill(node.chances)
    const place = node.getBoundingClientRect()
    const size = this.box.getBoundingClientRect()
    const left = Math.max(8, Math.min(place.left, window.innerWidth - size.width - 8))
    const above = place.top - size.height - 6
    this.box.style.left = `${left}px`
    this.box.style.top = `${above > 8 ? above : place.bottom + 6}px`
  }

  fill({ text, logprob, top }) {
    if (logprob === null) {
      this.box.replaceChildren(element("div", {}, "No probability is known of this piece."))
      return
    }
    const best = Math.max(logprob, ...top.map((other) => other[1]))
    const rows = top.map(([other, chance]) => this.row(other, chance, best, chance === logprob && other === text))
    if (!rows.some((row) => row.classList.contains("own"))) rows.unshift(this.row(text, logprob, best, true))
    this.box.replaceChildren(element("div", { class: "muted" }, "What might have come here, by the model itself"), ...rows)
  }

  row(text, logprob, best, own) {
    const level = element("span", { class: "level" })
    level.style.width = `${Math.max(1, 100 * Math.exp(logprob - Math.max(best, Math.log(1e-9))))}%`
    return element("div", { class: own ? "row own" : "row" }, element("code", {}, visible(text)), element("span", {}, level),
      element("span", { class: "share" }, percent(logprob)))
  }
}
