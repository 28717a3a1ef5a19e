// The controls above the table: search, filters, columns, archive. Each changes the view and asks for it to be shown.

const SEARCH_MS = 150; // a search is asked for when typing rests
const OPERATIONS = {
  number: [[">", ">"], [">=", "≥"], ["<", "<"], ["<=", "≤"], ["is", "="], ["is not", "≠"], ["missing", "has no value"], ["present", "has a value"]],
  text: [["is", "is"], ["is not", "is not"], ["contains", "contains"], ["missing", "has no value"], ["present", "has a value"]],
  time: [[">=", "on or after"], ["<", "before"]],
  tags: [["is", "has"], ["is not", "doesn't have"], ["is empty", "is empty"], ["is not empty", "is not empty"]],
};
const WITHOUT_VALUE = { missing: { op: "is", value: null }, present: { op: "is not", value: null }, "is empty": { op: "is empty" }, "is not empty": { op: "is not empty" } };

function getKind(column) { return column.kind === "estimate" ? "number" : column.kind; }

function describeCondition({ op, value }, column, shown) {
  const listed = Object.entries(WITHOUT_VALUE).find(([, other]) => other.op === op && (other.value === undefined || other.value === value));
  const [, word] = OPERATIONS[getKind(column)].find(([name]) => name === (listed?.[0] ?? op)) ?? [op, op];
  return [column.title, word, ...(listed ? [] : [shown?.[value]?.title ?? String(value)])].join(" ");
}

// The options of columns, by group.
function buildColumnOptions(columns) {
  const groups = Map.groupBy(columns, ({ group }) => group);
  return [...groups].map(([group, listed]) => element("optgroup", { label: group }, listed.map(({ name, title }) => element("option", { value: name }, title))));
}

class TableControls {
  constructor(table) {
    this.table = table;
    this.search = element("input", { type: "search", placeholder: "Search name, notes, tags, data set, model", "aria-label": "Search runs", class: "search" });
    this.search.oninput = () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.change({ search: this.search.value.trim() }), SEARCH_MS); };
    this.status = element("select", { "aria-label": "Status" });
    this.status.onchange = () => this.filterByStatus(this.status.value);
    this.filterButton = this.buildToggle("Filter", () => this.buildFilter());
    this.columnButton = this.buildToggle("Columns", () => this.buildColumns());
    this.archived = element("input", { type: "checkbox" });
    this.archived.onchange = () => this.change({ archived: this.archived.checked });
    this.archivedLabel = element("label", { class: "check" }, this.archived, " Show archived");
    this.count = element("span", { class: "count", role: "status" });
    this.save = element("button", { type: "button", title: "Save the runs that match, with the columns shown", onclick: () => table.saveCsv() }, "Save CSV");
    this.chips = element("div", { class: "chips" });
    this.panel = element("div", { class: "drawer", hidden: true });
    this.box = element("div", {},
      element("div", { class: "bar" }, this.search, this.status, this.filterButton, this.columnButton, this.archivedLabel, this.count, this.save),
      this.chips, this.panel);
  }

  change(view) {
    Object.assign(this.table.view, view);
    this.table.reload();
  }

  // A button that opens and closes one panel below the bar.
  buildToggle(label, build) {
    const button = element("button", { type: "button", "aria-expanded": "false" }, label);
    button.onclick = () => {
      const open = this.opened !== button;
      this.close();
      if (!open) return;
      this.opened = button;
      button.setAttribute("aria-expanded", "true");
      this.panel.replaceChildren(...build());
      this.panel.hidden = false;
      this.panel.querySelector("input, select")?.focus();
    };
    return button;
  }

  close() {
    this.opened?.setAttribute("aria-expanded", "false");
    this.opened = null;
    this.panel.hidden = true;
  }

  filterByStatus(value) {
    const others = this.table.view.conditions.filter(({ column }) => column !== "status");
    this.change({ conditions: value ? [...others, { column: "status", op: "is", value }] : others });
  }

  // A new condition: column, operation and value.
  buildFilter() {
    const columns = element("select", { "aria-label": "Column" }, buildColumnOptions(this.table.data.columns));
    const operations = element("select", { "aria-label": "Comparison" });
    const value = element("input", { "aria-label": "Value", list: "runs-values" });
    const values = element("datalist", { id: "runs-values" });
    const problem = element("span", { class: "problem", role: "alert", hidden: true });
    const pick = () => {
      const column = this.table.columns.get(columns.value);
      operations.replaceChildren(...OPERATIONS[getKind(column)].map(([name, word]) => element("option", { value: name }, word)));
      value.type = { number: "number", time: "date" }[getKind(column)] ?? "text";
      if (value.type === "number") value.step = "any";
      value.value = "";
      values.replaceChildren(...this.table.listValues(column).map((each) => element("option", { value: each })));
      pickOperation();
    };
    const pickOperation = () => { value.hidden = operations.value in WITHOUT_VALUE; };
    columns.onchange = pick;
    operations.onchange = pickOperation;
    columns.value = this.table.columns.has("figures.gain") ? "figures.gain" : columns.value;
    pick();
    const form = element("form", { class: "row" }, columns, operations, value, values, element("button", { type: "submit", class: "primary" }, "Add filter"), problem);
    form.onsubmit = (event) => {
      event.preventDefault();
      const condition = this.readCondition(columns.value, operations.value, value.value.trim());
      problem.hidden = Boolean(condition);
      if (!condition) { problem.textContent = "Give a value to compare with."; return; }
      this.change({ conditions: [...this.table.view.conditions, condition] });
      value.value = "";
    };
    return [form];
  }

  readCondition(name, operation, typed) {
    if (operation in WITHOUT_VALUE) return { column: name, ...WITHOUT_VALUE[operation] };
    if (!typed) return null;
    const column = this.table.columns.get(name);
    if (getKind(column) === "number") return Number.isFinite(Number(typed)) ? { column: name, op: operation, value: Number(typed) } : null;
    const shown = Object.entries(this.table.data.values[name] ?? {}).find(([, { title }]) => title.toLowerCase() === typed.toLowerCase());
    return { column: name, op: operation, value: shown ? shown[0] : typed };
  }

  // All columns by group, with a search; a click shows or hides one.
  buildColumns() {
    const { view, data } = this.table;
    const search = element("input", { type: "search", placeholder: "Search columns", "aria-label": "Search columns" });
    const reset = element("button", { type: "button", onclick: () => { Object.assign(view, { columns: data.defaults, widths: {} }); this.table.reload(); this.panel.replaceChildren(...this.buildColumns()); } }, "Reset to default");
    const groups = [...Map.groupBy(data.columns, ({ group }) => group)].filter(([, listed]) => listed.length);
    const lists = groups.map(([group, listed]) => element("fieldset", {}, element("legend", {}, group), listed.filter(({ name }) => !ALWAYS.includes(name)).map((column) => this.buildColumnBox(column))));
    search.oninput = () => {
      const typed = search.value.trim().toLowerCase();
      for (const list of lists) {
        const labels = [...list.querySelectorAll("label")];
        labels.forEach((label) => { label.hidden = !label.textContent.toLowerCase().includes(typed); });
        list.hidden = labels.every((label) => label.hidden);
      }
    };
    return [element("div", { class: "row" }, search, reset, element("span", { class: "hint" }, "Drag a heading in the table to move its column.")), element("div", { class: "columns" }, lists)];
  }

  buildColumnBox(column) {
    const box = element("input", { type: "checkbox" });
    box.checked = this.table.view.columns.includes(column.name);
    box.onchange = () => {
      const { view, data } = this.table;
      if (box.checked && view.columns.length >= data.maxColumns - ALWAYS.length) { box.checked = false; this.table.say(`The table shows at most ${data.maxColumns} columns: hide another one first.`); return; }
      this.change({ columns: box.checked ? [...view.columns, column.name] : view.columns.filter((name) => name !== column.name) });
    };
    return element("label", { class: "check" }, box, ` ${column.title}`);
  }

  // Show the view: what is filtered, and how many runs that leaves.
  show(counts) {
    const { view, data, columns } = this.table;
    const { activeElement } = this.search.getRootNode();
    if (activeElement !== this.search) this.search.value = view.search;
    const status = view.conditions.find(({ column, op }) => column === "status" && op === "is");
    if (this.status.children.length === 0) {
      this.status.append(element("option", { value: "" }, "Any status"), ...Object.entries(data.values.status).map(([value, { title }]) => element("option", { value }, title)));
    }
    this.status.value = status?.value ?? "";
    this.archived.checked = view.archived;
    this.archivedLabel.hidden = !counts?.archived && !view.archived;
    this.archivedLabel.lastChild.textContent = ` Show archived${counts ? ` (${counts.archived.toLocaleString("en")})` : ""}`;
    this.save.hidden = !counts?.matching;
    const all = counts && counts.total + (view.archived ? counts.archived : 0);
    this.count.textContent = !counts ? "" : view.isFiltered || data.createdBy ? `${counts.matching.toLocaleString("en")} of ${plural(all, "run")}` : plural(all, "run");
    const chips = view.conditions.filter((condition) => condition !== status).map((condition) => element("button", {
      type: "button", class: "chip", title: "Remove this filter",
      onclick: () => this.change({ conditions: view.conditions.filter((each) => each !== condition) }),
    }, describeCondition(condition, columns.get(condition.column), data.values[condition.column]), element("span", { "aria-hidden": "true" }, " ×")));
    if (view.isFiltered) chips.push(element("button", { type: "button", class: "plain", onclick: () => { this.search.value = ""; this.change({ search: "", conditions: [] }); } }, "Clear search and filters"));
    this.chips.replaceChildren(...chips);
  }
}
