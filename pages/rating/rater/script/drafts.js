// What is begun and not sent, kept through a look back and through a reload.

const KEEP_DRAFT_AFTER = 250; // ms without a change

// By task: {task, state, comment}. The one on the desk is in the browser's storage, too.
class Drafts {
  constructor(round) {
    this.name = `tunebench-rating-draft:${round}`;
    this.byTask = new Map();
  }

  // The task that an earlier visit has begun; null for none.
  restore() {
    const draft = readStorage(this.name);
    if (!draft?.task) return null;
    this.byTask.set(draft.task, draft);
    return draft.task;
  }

  get(task) {
    return this.byTask.get(task);
  }

  get tasks() {
    return [...this.byTask.keys()];
  }

  keep(task, state, comment) {
    if (state === null && comment.trim() === "") this.byTask.delete(task);
    else this.byTask.set(task, { task, state, comment });
  }

  store(task) {
    clearTimeout(this.timer);
    writeStorage(this.name, this.byTask.get(task) ?? null);
  }

  storeSoon(make) {
    clearTimeout(this.timer);
    this.timer = setTimeout(make, KEEP_DRAFT_AFTER);
  }

  forget(task) {
    clearTimeout(this.timer);
    this.byTask.delete(task);
    if (readStorage(this.name)?.task === task) writeStorage(this.name, null);
  }
}

// The field below the buttons: as high as what is written, and away where nothing is.
class CommentField {
  constructor(field, changed) {
    this.field = field;
    field.addEventListener("input", () => { this.size(); changed(); });
    field.addEventListener("blur", () => this.size());
  }

  get text() {
    return this.field.value;
  }

  show(text) {
    this.field.value = text;
    this.size();
  }

  open() {
    this.field.hidden = false;
    this.field.focus();
  }

  size() {
    const { field } = this;
    field.hidden = field.value.trim() === "" && field.getRootNode().activeElement !== field;
    field.style.height = "auto";
    if (field.value) field.style.height = `${Math.min(field.scrollHeight + 2, 140)}px`;
  }
}
