// Answering a question about a text in one's own words. It is one of the protocols of protocols.js.

class FreeText {
  constructor(desk, state, answer) {
    this.desk = desk;
    this.written = state?.written ?? answer?.written ?? "";
  }

  keys() {
    return new Map([
      ["e", { label: "Write (Esc to leave the field)", field: true, run: () => this.field.focus() }],
      ["ctrl+enter", { label: "Submit the text", run: () => this.send() }],
    ]);
  }

  send() {
    if (this.written.trim() === "") {
      this.desk.say("The answer is empty. Write one, or skip this item.", "warn");
      return;
    }
    this.editing = this.desk.root.getRootNode().activeElement === this.field; // goes on with the next
    this.desk.rate({ written: this.written.trim() });
  }

  controls() {
    return [keyButton(this.desk, "e", "Write", { icon: "edit" }),
      keyButton(this.desk, "ctrl+enter", "Send", { kind: "primary", disabled: this.written.trim() === "" })];
  }

  buildSide() {
    this.field = element("textarea", { "data-desk": "text", "aria-label": "Answer in words", dir: "auto",
      maxlength: "200000", spellcheck: "true" });
    this.field.value = this.written;
    this.field.addEventListener("input", () => {
      const wasEmpty = this.written.trim() === "";
      this.written = this.field.value;
      if (wasEmpty !== (this.written.trim() === "")) this.desk.showBar();
      this.desk.keepDraft();
    });
    const question = element("div", { class: "asked-in-words text", tabindex: "0", role: "region",
      "aria-label": "Question" }, renderMarkdown(this.desk.round.instruction));
    return element("section", { class: "answer writing" }, question, this.field);
  }

  state() { return this.written.trim() ? { written: this.written } : null; }

  decorate() {}
}
