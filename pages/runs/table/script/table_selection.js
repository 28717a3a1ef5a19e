// The runs that are selected, and what can be done with all of them at once. They stay selected for the session.

const SELECTION_KEY = "tunebench-runs-selected"; // in sessionStorage

class TableSelection {
  constructor(table) {
    this.table = table;
    this.runs = new Map(this.restore().map((row) => [row.run_id, row])); // in the order of their selection
    this.last = null; // place of the last box that was clicked
    this.box = element("div", { class: "selection", role: "group", "aria-label": "Selected runs", hidden: true });
  }

  restore() {
    try {
      const rows = JSON.parse(sessionStorage.getItem(SELECTION_KEY) ?? "[]");
      return Array.isArray(rows) ? rows.filter((row) => typeof row?.run_id === "string") : [];
    } catch { return []; } // storage is off, or holds something else
  }

  store() {
    const rows = [...this.runs.values()].map(({ run_id, archived, tags }) => ({ run_id, archived, tags }));
    try { sessionStorage.setItem(SELECTION_KEY, JSON.stringify(rows)); } catch { /* storage is off */ }
  }

  // Select or deselect the run at a place; with Shift, all from the last one to it.
  toggle(place, on, extend) {
    const [first, last] = extend && this.last !== null ? [Math.min(place, this.last), Math.max(place, this.last)] : [place, place];
    for (let at = first; at <= last; at++) {
      const row = this.table.rows.rows.get(at);
      if (row && on) this.runs.set(row.run_id, row);
      else if (row) this.runs.delete(row.run_id);
    }
    this.last = place;
    this.show();
  }

  // Select every run that matches, as far as one request can list them.
  async selectAll() {
    const rows = await this.table.readAll([]);
    this.runs = new Map(rows.map((row) => [row.run_id, row]));
    this.show();
    if (rows.length < this.table.rows.counts.matching) this.table.say(`The first ${rows.length.toLocaleString("en")} of ${this.table.rows.counts.matching.toLocaleString("en")} runs are selected.`);
  }

  clear() {
    this.runs.clear();
    this.last = null;
    this.show();
  }

  show() {
    const { data } = this.table;
    const count = this.runs.size;
    this.store();
    this.table.showBoxes();
    this.box.hidden = !count;
    if (!count) return;
    const button = (label, act, limit, note) => element("button", { type: "button", onclick: act, disabled: limit === true, title: note ?? "" }, label);
    const open = (page, least, most) => {
      const why = count < least ? "Select another run first." : count > most ? `At most ${most} runs: deselect some.` : "";
      return button(page === "compare" ? "Compare" : "Curves", () => this.table.open(page, [...this.runs.keys()]), why !== "", why);
    };
    const archived = [...this.runs.values()].every((run) => run.archived);
    const edits = data.mayEdit ? [
      button("Add tag", () => this.askForTag("add_tags", "Add")),
      button("Remove tag", () => this.askForTag("remove_tags", "Remove")),
      button(archived ? "Take out of the archive" : "Archive", () => this.organize({ archived: !archived })),
    ] : [];
    const note = count > data.maxCompared ? [element("span", { class: "hint" }, `Compare takes up to ${data.maxCompared} runs.`)] : [];
    this.box.replaceChildren(element("strong", {}, `${plural(count, "run")} selected`), open("compare", 2, data.maxCompared), open("curves", 1, data.maxCompared), ...edits, button("Clear selection", () => this.clear()), ...note);
  }

  // A field for a tag, in place of the buttons.
  askForTag(field, label) {
    const tags = [...new Set(field === "remove_tags" ? [...this.runs.values()].flatMap(({ tags: own }) => own ?? []) : this.table.listTags())].sort();
    const tag = element("input", { "aria-label": "Tag", placeholder: "Tag", maxlength: 40, list: "runs-tags" });
    const form = element("form", { class: "row" }, tag, element("datalist", { id: "runs-tags" }, tags.map((each) => element("option", { value: each }))),
      element("button", { type: "submit", class: "primary" }, label), element("button", { type: "button", onclick: () => this.show() }, "Cancel"));
    form.onsubmit = (event) => { event.preventDefault(); if (tag.value.trim()) this.organize({ [field]: [tag.value.trim()] }); };
    tag.onkeydown = (event) => { if (event.key === "Escape") this.show(); };
    this.box.replaceChildren(element("strong", {}, `${plural(this.runs.size, "run")} selected`), form);
    tag.focus();
  }

  async organize(change) {
    const done = await this.table.send("organize", { runs: [...this.runs.keys()], ...change });
    if (!done) return;
    if ("archived" in change) this.clear();
    else this.show();
  }
}
