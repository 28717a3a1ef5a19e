// What the table shows: columns, order, search and filters. Columns and order stay for the next visit, search and
// filters for the session, so that Back from a run leads to the same rows.

const VIEW_KEY = "tunebench-runs-view"; // in localStorage
const QUERY_KEY = "tunebench-runs-query"; // in sessionStorage
const NEWEST = { sort: "created_at", descending: true };

class TableView {
  constructor(data) {
    this.columns = data.defaults;
    this.widths = {};
    Object.assign(this, NEWEST);
    Object.assign(this, { search: "", conditions: [], archived: false });
    this.restore(localStorage, VIEW_KEY, ["columns", "widths", "sort", "descending"]);
    this.restore(sessionStorage, QUERY_KEY, ["search", "conditions", "archived"]);
    this.drop(new Map(data.columns.map((column) => [column.name, column])));
  }

  restore(storage, key, names) {
    let stored;
    try { stored = JSON.parse(storage.getItem(key) ?? "{}"); } catch { return; } // off, or it holds something else
    for (const name of names) {
      const like = stored?.[name];
      if (typeof like === typeof this[name] && Array.isArray(like) === Array.isArray(this[name]) && like !== null) this[name] = like;
    }
  }

  // Remove what the present columns don't have: a metric of a run that was deleted, a view of another version.
  drop(columns) {
    this.columns = this.columns.filter((name) => columns.has(name));
    this.conditions = this.conditions.filter((condition) => columns.has(condition?.column));
    if (!columns.has(this.sort)) Object.assign(this, NEWEST);
  }

  store() {
    const { columns, widths, sort, descending, search, conditions, archived } = this;
    try {
      localStorage.setItem(VIEW_KEY, JSON.stringify({ columns, widths, sort, descending }));
      sessionStorage.setItem(QUERY_KEY, JSON.stringify({ search, conditions, archived }));
    } catch { /* storage is off */ }
  }

  // The request for a window of rows.
  buildRequest(createdBy, offset, limit, columns = this.columns) {
    const { search, conditions, archived, sort, descending } = this;
    return { columns, search, conditions, archived, created_by: createdBy, sort, descending, offset, limit };
  }

  // A first click on a column sorts it, numbers from the largest; a second one turns it round, a third undoes it.
  sortBy(column) {
    const first = column.kind !== "text" && column.kind !== "tags";
    if (this.sort !== column.name) Object.assign(this, { sort: column.name, descending: first });
    else if (this.descending === first) this.descending = !first;
    else Object.assign(this, NEWEST);
  }

  // Move a column in front of another one.
  move(name, before) {
    if (name === before) return;
    const others = this.columns.filter((each) => each !== name);
    others.splice(others.indexOf(before), 0, name);
    this.columns = others;
  }

  get isFiltered() { return Boolean(this.search || this.conditions.length); }
}
