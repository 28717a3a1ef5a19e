// What comes from the screens' server: an object a line, or why there is none.

async function reasonOf(response) {
  try {
    const error = await response.json()
    return `${error.message} ${error.fix || ""}`
  } catch {
    return `The screens answered with status ${response.status}. Load the page anew.`
  }
}

// The answer to a document that is sent as JSON. Throws what the server refuses it with.
async function post(address, body, signal) {
  const headers = { "Content-Type": "application/json" }
  const response = await fetch(address, { method: "POST", headers, signal, body: JSON.stringify(body) })
  if (!response.ok) throw new Error(await reasonOf(response))
  return response
}

async function eachLine(response, take) {
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
