// The table: only the rows in view are in the document, between two rows that hold the place of the others.

const ALWAYS = ["name", "status"]; // columns at the left
const ROW_PX = 46; // as in runs_table.css
const MARGIN_ROWS = 8; // drawn above and below the rows in view
const WIDTHS = { text: 150, number: 100, estimate: 150, time: 125, tags: 160 }; // by kind
const OWN_WIDTHS = { name: 250, status: 110, method: 105, dataset_name: 140, notes: 240, forgetting: 215 };
const LETTER_PX = 8; // of a heading, which breaks between words only
const NARROW_PX = 640; // below, the name takes half of what is seen
const MIN_WIDTH = 70;
const REFRESH_MS = 4_000; // between requests of the rows in view while a run is active

class RunsTable {
  constructor(root) {
    this.root = root;
    this.box = element("div", { class: "table" });
    root.replaceChildren(this.box);
    this.timer = setInterval(() => this.ask(), REFRESH_MS);
  }

  // Called at each rerun of the page.
  update(data, trigger) {
    const first = !this.data;
    const same = JSON.stringify(this.data) === JSON.stringify(data);
    this.data = data;
    this.trigger = trigger;
    if (same) return;
    this.columns = new Map(data.columns.map((column) => [column.name, column]));
    if (first) this.build();
    else this.view.drop(this.columns);
    this.reload();
  }

  build() {
    this.view = new TableView(this.data);
    this.rows = new TableRows(this.data.addresses.read);
    this.selection = new TableSelection(this);
    this.controls = new TableControls(this);
    this.problem = element("div", { class: "problem", role: "alert", hidden: true });
    this.head = element("thead");
    this.body = element("tbody");
    this.widths = element("colgroup");
    this.grid = element("table", { "aria-label": "Runs" }, this.widths, this.head, this.body);
    this.scroll = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs, scrollable" }, this.grid);
    this.scroll.onscroll = () => this.look();
    this.sizing = new ResizeObserver(() => this.look());
    this.sizing.observe(this.scroll);
    this.box.replaceChildren(this.controls.box, this.selection.box, this.problem, this.scroll);
  }

  get shownColumns() { return ["status", ...this.view.columns.filter((name) => !ALWAYS.includes(name))].map((name) => this.columns.get(name)).filter(Boolean); }

  // Ask for everything anew, after a change of the view or of the runs.
  reload() {
    this.view.store();
    this.rows.restart();
    this.showHead();
    this.controls.show(this.rows.counts);
    return this.look(true);
  }

  // Read the rows in view again, while something may have changed.
  ask() {
    if (!this.data?.alive || document.hidden || !this.root.isConnected || this.editing) return;
    this.rows.restart();
    this.look();
  }

  // Load and draw what is in view.
  async look(first = false) {
    const [top, bottom] = this.findPlaces();
    if (!first && this.rows.counts) this.draw();
    this.box.classList.toggle("loading", this.rows.stale === true);
    try {
      const came = await this.rows.load(top, bottom, (offset, limit) => this.view.buildRequest(this.data.createdBy, offset, limit));
      if (!came) return;
      this.problem.hidden = true;
      this.box.classList.remove("loading");
      this.rows.rows.forEach((row) => { if (this.selection.runs.has(row.run_id)) this.selection.runs.set(row.run_id, row); });
      this.controls.show(this.rows.counts);
      if (this.scroll.scrollTop > this.rows.counts.matching * ROW_PX) this.scroll.scrollTop = 0;
      this.draw();
      if (!this.selection.box.querySelector("form")) this.selection.show();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.box.classList.remove("loading");
      this.say(error.message);
    }
  }

  say(message) {
    this.problem.textContent = message;
    this.problem.hidden = false;
  }

  // The places of the first and the last row to draw.
  findPlaces() {
    const first = Math.floor(this.scroll.scrollTop / ROW_PX);
    const count = Math.ceil((this.scroll.clientHeight || 600) / ROW_PX);
    return [Math.max(0, first - MARGIN_ROWS), first + count + MARGIN_ROWS];
  }

  showHead() {
    const { view } = this;
    const columns = this.shownColumns;
    this.widths.replaceChildren(...[34, ...[this.columns.get("name"), ...columns].map((column) => this.getWidth(column))].map((width) => element("col", { style: `width:${width}px` })));
    this.everyBox = element("input", { type: "checkbox", "aria-label": "Select all runs that match" });
    this.everyBox.onchange = () => (this.everyBox.checked ? this.selection.selectAll() : this.selection.clear());
    this.head.replaceChildren(element("tr", {},
      element("th", { class: "pick" }, this.everyBox),
      this.buildHeading(this.columns.get("name"), false),
      columns.map((column) => this.buildHeading(column, column.name !== "status"))));
    this.grid.style.width = `${[...this.widths.children].reduce((sum, { style }) => sum + parseFloat(style.width), 0)}px`;
  }

  getWidth({ name, kind, title }) {
    const longest = Math.min(240, Math.max(...title.split(" ").map(({ length }) => length)) * LETTER_PX + 24);
    const width = this.view.widths[name] ?? OWN_WIDTHS[name] ?? Math.max(WIDTHS[kind], longest);
    return name === "name" && this.root.clientWidth < NARROW_PX ? Math.min(width, this.root.clientWidth / 2) : width;
  }

  buildHeading(column, movable) {
    const { view } = this;
    const sorted = view.sort === column.name;
    const order = sorted ? (view.descending ? "descending" : "ascending") : "none";
    const unit = column.unit && !["seconds", "parameters"].includes(column.unit) ? element("small", {}, column.unit) : null;
    const label = element("button", { type: "button", title: `Sort by ${column.title}`, onclick: () => { view.sortBy(column); this.scroll.scrollTop = 0; this.reload(); } },
      element("span", {}, column.title, sorted ? element("span", { class: "arrow", "aria-hidden": "true" }, view.descending ? " ↓" : " ↑") : null), unit);
    const grip = element("span", { class: "grip", "aria-hidden": "true" });
    grip.onpointerdown = (event) => this.resize(event, column.name);
    const heading = element("th", { "aria-sort": order, class: column.name === "name" ? "name" : column.kind === "number" || column.kind === "estimate" ? "right" : "", draggable: movable ? "true" : null }, label, grip);
    if (movable) {
      heading.ondragstart = (event) => { this.dragged = column.name; event.dataTransfer.effectAllowed = "move"; };
      heading.ondragover = (event) => { if (this.dragged) event.preventDefault(); };
      heading.ondrop = (event) => { event.preventDefault(); view.move(this.dragged, column.name); this.dragged = null; this.reload(); };
    }
    return heading;
  }

  resize(event, name) {
    event.preventDefault();
    const col = this.widths.children[1 + ["name", ...this.shownColumns.map((column) => column.name)].indexOf(name)];
    const [start, width] = [event.clientX, parseFloat(col.style.width)];
    const move = ({ clientX }) => { this.setWidth(col, Math.max(MIN_WIDTH, width + clientX - start)); };
    const end = () => {
      removeEventListener("pointermove", move);
      this.view.widths = { ...this.view.widths, [name]: parseFloat(col.style.width) };
      this.view.store();
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end, { once: true });
  }

  setWidth(col, width) {
    this.grid.style.width = `${parseFloat(this.grid.style.width) + width - parseFloat(col.style.width)}px`;
    col.style.width = `${width}px`;
  }

  draw() {
    if (this.editing) return;
    const { matching } = this.rows.counts;
    const [top, bottom] = this.findPlaces();
    const last = Math.min(bottom, matching - 1);
    const columns = this.shownColumns;
    const lines = [];
    for (let place = top; place <= last; place++) lines.push(this.buildLine(place, this.rows.rows.get(place), columns));
    const space = (rows) => element("tr", { class: "space", "aria-hidden": "true" }, element("td", { colspan: columns.length + 2, style: `height:${Math.max(0, rows) * ROW_PX}px` }));
    this.grid.setAttribute("aria-rowcount", matching + 1);
    const focused = this.body.getRootNode().activeElement?.dataset?.focus;
    this.body.replaceChildren(space(Math.min(top, matching)), ...lines, space(matching - 1 - last));
    if (!matching) this.body.replaceChildren(element("tr", {}, element("td", { class: "empty", colspan: columns.length + 2 }, this.describeEmpty())));
    if (focused) this.body.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  describeEmpty() {
    const { archived } = this.rows.counts;
    if (this.view.isFiltered) return "No run matches. Clear the search or the filters above.";
    return archived ? `All ${plural(archived, "run")} are archived. Show them with the box above.` : "No runs yet.";
  }

  buildLine(place, row, columns) {
    if (!row) return element("tr", { class: "waiting", "aria-rowindex": place + 2 }, element("td"), element("td", {}, element("span", { class: "blank" })), columns.map(() => element("td")));
    const box = element("input", { type: "checkbox", "aria-label": `Select ${row.name}`, "data-focus": `pick-${row.run_id}` });
    box.checked = this.selection.runs.has(row.run_id);
    box.onclick = (event) => this.selection.toggle(place, box.checked, event.shiftKey);
    const cells = columns.map((column) => this.buildTableCell(row, column));
    return element("tr", { "aria-rowindex": place + 2, class: row.archived ? "archived" : "", "data-run": row.run_id }, element("td", { class: "pick" }, box), this.buildNameCell(row), cells);
  }

  buildNameCell(row) {
    const link = element("a", { href: `run?run=${encodeURIComponent(row.run_id)}`, title: row.name, "data-focus": `name-${row.run_id}` }, row.name);
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return; // a new tab, as everywhere
      event.preventDefault();
      this.open("run", [row.run_id]);
    };
    const color = this.data.colors[(row.number - 1) % this.data.colors.length];
    const archived = row.archived ? [element("span", { class: "tag" }, "archived")] : [];
    return element("td", { class: "name" }, element("div", { class: "line" }, element("i", { style: `background:${color}` }), link, archived, this.buildEditButton(row, "name", "Rename")));
  }

  buildTableCell(row, column) {
    const shown = this.data.values[column.name];
    if (column.name === "status") return element("td", {}, buildStatus(row, shown, this.data.active));
    const right = column.kind === "number" || column.kind === "estimate" ? "right" : "";
    const content = buildCell(row, column, shown);
    if (column.name !== "notes" && column.name !== "tags") return element("td", { class: right }, content);
    return element("td", {}, element("div", { class: "line" }, element("span", { class: "content" }, content), this.buildEditButton(row, column.name, `Edit the ${column.name}`)));
  }

  buildEditButton(row, field, label) {
    if (!this.data.mayEdit) return null;
    return element("button", { type: "button", class: "edit", title: label, "aria-label": `${label}: ${row.name}`, "data-focus": `${field}-edit-${row.run_id}`, onclick: ({ target }) => this.edit(row, field, target.closest("td")) }, "✎");
  }

  // A field in place of a cell: Enter saves, Escape or leaving it doesn't.
  edit(row, field, cell) {
    const before = field === "tags" ? row.tags.join(", ") : row[field];
    const input = element("input", { class: "cell", "aria-label": `New ${field} of ${row.name}`, maxlength: field === "name" ? 120 : 10_000 });
    input.value = before;
    this.editing = true;
    cell.replaceChildren(input);
    input.focus();
    input.select();
    const close = () => { if (!this.editing) return; this.editing = false; this.draw(); };
    input.onblur = close;
    input.onkeydown = async (event) => {
      if (event.key === "Escape") { close(); return; }
      if (event.key !== "Enter" || event.isComposing) return;
      const typed = input.value.trim();
      input.onblur = null;
      this.editing = false;
      if (typed === before || !(await this.saveEdit(row, field, typed))) this.draw();
    };
  }

  saveEdit(row, field, typed) {
    if (field !== "tags") return this.send("edit", { run: row.run_id, [field]: typed, seen: { [field]: row[field] } });
    const tags = typed.split(",").map((tag) => tag.trim()).filter(Boolean);
    const change = { add_tags: tags.filter((tag) => !row.tags.includes(tag)), remove_tags: row.tags.filter((tag) => !tags.includes(tag)) };
    return this.send("organize", { runs: [row.run_id], ...change });
  }

  // Send a change and show what became of it; whether it was made.
  async send(name, body) {
    try {
      await sendChange(this.data.addresses[name], body);
    } catch (error) {
      this.say(error.message);
      return false;
    }
    await this.reload();
    return true;
  }

  showBoxes() {
    this.body.querySelectorAll("tr[data-run]").forEach((line) => { line.querySelector("input[type=checkbox]").checked = this.selection.runs.has(line.dataset.run); });
    const { size } = this.selection.runs;
    this.everyBox.checked = size > 0 && size >= (this.rows.counts?.matching ?? Infinity);
    this.everyBox.indeterminate = size > 0 && !this.everyBox.checked;
  }

  // All rows that match, as far as one request can list them.
  async readAll(columns) {
    const request = this.view.buildRequest(this.data.createdBy, 0, MAX_SELECTED, columns);
    return readRows(await fetchTable(this.data.addresses.read, request));
  }

  async saveCsv() {
    try {
      const rows = await this.readAll(this.view.columns);
      saveFile("runs.csv", buildRunsCsv(rows, this.shownColumns), "text/csv");
      const { matching } = this.rows.counts;
      if (rows.length < matching) this.say(`The file has the first ${rows.length.toLocaleString("en")} of ${matching.toLocaleString("en")} runs: narrow the search for the others.`);
    } catch (error) {
      this.say(error.message);
    }
  }

  // The values of a column in the rows that are there, for suggestions.
  listValues(column) {
    const titles = this.data.values[column.name];
    if (titles) return Object.values(titles).map(({ title }) => title);
    if (column.kind !== "text" && column.kind !== "tags") return [];
    return [...new Set([...this.rows.rows.values()].flatMap((row) => row[column.name] ?? []))].sort().slice(0, 50);
  }

  listTags() { return [...new Set([...this.rows.rows.values()].flatMap(({ tags }) => tags ?? []))]; }

  open(page, runs) { this.trigger("open", { page, runs }); }

  remove() {
    clearInterval(this.timer);
    this.sizing?.disconnect();
    this.rows?.asking.abort();
  }
}
