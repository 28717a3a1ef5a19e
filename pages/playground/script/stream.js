// Requests to the screens' server, which responds with one JSON object per line or an error.

async function readError(response) {
  try {
    const error = await response.json()
    return `${error.message} ${error.fix || ""}`
  } catch {
    return `The server responded with status ${response.status}. Reload the page.`
  }
}

// Send a document as JSON and return the response. Throws the server's error message.
async function postJson(address, body, signal) {
  const headers = { "Content-Type": "application/json" }
  const response = await fetch(address, { method: "POST", headers, signal, body: JSON.stringify(body) })
  if (!response.ok) throw new Error(await readError(response))
  return response
}

async function readLines(response, take) {
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
