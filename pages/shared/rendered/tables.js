// How a component asks a route of ours for an Arrow table, without a rerun of the page.

// The columns of a table by name, each an array (integers of 64 bits as numbers), and the metadata of its
// schema. An error of the engine is thrown with its message and what to do.
async function fetchTable(address, body, signal) {
  const response = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error(await readProblem(response));
  const table = fl.tableFromIPC(new Uint8Array(await response.arrayBuffer()), { useBigInt: false });
  const columns = Object.fromEntries(table.schema.fields.map(({ name }, at) => [name, table.getChildAt(at)]));
  return { rows: table.numRows, columns, metadata: Object.fromEntries(table.schema.metadata ?? []) };
}

async function readProblem(response) {
  try {
    const { message, fix } = await response.json();
    return [message, fix].filter(Boolean).join(" ") || `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status}.`;
  }
}
