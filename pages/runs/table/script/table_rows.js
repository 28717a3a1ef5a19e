// The rows of the table: windows of runs, asked for when they come into view.

const WINDOW = 100; // rows of a request
const MAX_SELECTED = 1_000; // rows that one request can list, as the engine takes them

class TableRows {
  constructor(address) {
    this.address = address;
    this.rows = new Map(); // place -> row
    this.windows = new Set(); // that are there or asked for
    this.counts = null; // of runs: matching, total, archived
    this.asking = new AbortController();
  }

  // Forget what is there: from now on other rows are asked for. They are drawn until those have come.
  restart() {
    this.asking.abort();
    this.asking = new AbortController();
    this.windows.clear();
    this.stale = true;
  }

  // Ask for what is missing between two places; resolves to whether something has come.
  async load(first, last, build) {
    const missing = [];
    for (let at = Math.floor(first / WINDOW); at <= Math.floor(last / WINDOW); at++) {
      if (!this.windows.has(at) && (at === 0 || !this.counts || at * WINDOW < this.counts.matching || this.stale)) missing.push(at);
    }
    const { signal } = this.asking;
    const answers = await Promise.all(missing.map(async (at) => {
      this.windows.add(at);
      try {
        return [at, await fetchTable(this.address, build(at * WINDOW, WINDOW), signal)];
      } catch (error) {
        if (!signal.aborted) this.windows.delete(at);
        throw error;
      }
    }));
    if (signal.aborted || !answers.length) return false;
    if (this.stale) { this.rows.clear(); this.stale = false; }
    for (const [at, table] of answers) this.take(at * WINDOW, table);
    return true;
  }

  take(offset, table) {
    const { matching, total, archived } = table.metadata;
    this.counts = { matching: Number(matching), total: Number(total), archived: Number(archived) };
    readRows(table).forEach((row, at) => this.rows.set(offset + at, row));
  }
}

// The rows of an answer, each as an object by column name.
function readRows(table) {
  return Array.from({ length: table.rows }, (_, at) => Object.fromEntries(Object.entries(table.columns).map(([name, column]) => [name, column.at(at)])));
}

// Send a change to a route; an error of the engine is thrown with its message and what to do.
async function sendChange(address, body) {
  const response = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(await readProblem(response));
}
