/* What the pages do in the browser: switches in the header, the rating by keyboard, kept entries.
 *
 * The HTML comes from the server (ui/templates); here it only gets its behaviour, by events that
 * are caught on the component's own element, since Gradio may replace what is inside at any time.
 */
(() => {
  "use strict";

  const page = window.twopane;
  const text = (name, values = {}) =>
    Object.entries(values).reduce((t, [key, v]) => t.replace(`{${key}}`, v), page.texts[name]);

  /* Gradio loads its components one by one, in no order. */
  const whenPresent = (selector, act) => {
    const found = document.querySelector(selector);
    if (found) return act(found);
    new MutationObserver((_, observer) => {
      const late = document.querySelector(selector);
      if (!late) return;
      observer.disconnect();
      act(late);
    }).observe(document.body, { childList: true, subtree: true });
  };

  /* Gradio brings its components up to date one by one: a button may still be off for a moment. */
  const focusOnceEnabled = (button) => {
    if (!button?.disabled) return button?.focus({ preventScroll: true });
    const observer = new MutationObserver(() => {
      if (button.disabled) return;
      observer.disconnect();
      button.focus({ preventScroll: true });
    });
    observer.observe(button, { attributeFilter: ["disabled"] });
  };

  /* What the browser keeps. A page in another site's frame may not be allowed to: then only until
   * the page is left. */
  const unkept = new Map();
  const store = {
    get(key) {
      try {
        return localStorage.getItem(key);
      } catch {
        return unkept.get(key) ?? null;
      }
    },
    set(key, value) {
      try {
        localStorage.setItem(key, value);
      } catch {
        unkept.set(key, value);
      }
    },
    remove(...keys) {
      for (const key of keys) unkept.delete(key);
      try {
        for (const key of keys) localStorage.removeItem(key);
      } catch {
        /* nothing is kept there */
      }
    },
    keys() {
      try {
        return Object.keys(localStorage);
      } catch {
        return [];
      }
    },
  };

  // --- messages ---------------------------------------------------------------------------------

  /* Gradio has this one in English only, and doesn't say what becomes of the entries. It tries
   * again by itself, then loads the page anew. */
  const explainLostConnection = () => {
    for (const words of document.querySelectorAll("[data-testid=toast-text]")) {
      if (words.textContent.startsWith("Connection to the server was lost")) words.textContent = text("connection_lost");
    }
  };
  new MutationObserver(explainLostConnection).observe(document, { childList: true, subtree: true });

  // --- header -----------------------------------------------------------------------------------

  const setDark = (dark) => document.body.classList.toggle("dark", dark);

  const wantsDark = () => {
    const chosen = store.get("twopane_theme");
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };

  page.attachHeader = (element) => {
    setDark(wantsDark());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setDark(wantsDark()));
    element.addEventListener("click", (event) => {
      const action = event.target.closest("[data-action]")?.dataset.action;
      if (action === "theme") {
        const dark = !document.body.classList.contains("dark");
        store.set("twopane_theme", dark ? "dark" : "light");
        setDark(dark);
      } else if (action === "language") {
        const other = page.language === "zh" ? "en" : "zh";
        const secure = location.protocol === "https:" ? "; SameSite=None; Secure; Partitioned" : "; SameSite=Lax";
        document.cookie = `${page.languageCookie}=${other}; path=/; max-age=34560000${secure}`;
        location.reload();
      }
    });
  };

  // --- the rating -------------------------------------------------------------------------------

  class RatingForm {
    constructor(element, trigger) {
      this.element = element;
      this.trigger = trigger;
      this.draftTimer = null;
      this.known = this.version = this.offered = null;
      element.addEventListener("change", () => this.edited());
      element.addEventListener("input", (event) => event.target.matches("textarea") && this.edited());
      element.addEventListener("focusin", (event) => this.mark(event.target.closest("[data-row]")));
      element.addEventListener("click", (event) => this.clicked(event));
      element.addEventListener("submit", (event) => event.target.method !== "dialog" && event.preventDefault());
      document.addEventListener("keydown", (event) => this.keyed(event));
      window.addEventListener("online", () => this.form && this.saveDraft());
      new MutationObserver(() => this.rendered()).observe(element, {
        childList: true,
        subtree: true,
        attributeFilter: ["disabled", "data-trial", "data-turns", "data-edited-at", "data-editable"],
      });
      this.rendered();
    }

    get form() {
      return this.element.querySelector("form[data-trial]");
    }

    get open() {
      return Boolean(this.form) && !this.form.querySelector("fieldset").disabled;
    }

    get rows() {
      return [...this.form.querySelectorAll("[data-row]")];
    }

    get storageKey() {
      return `twopane_draft_${this.form.dataset.trial}`;
    }

    get draft() {
      try {
        return JSON.parse(store.get(this.storageKey));
      } catch {
        return null; // not ours
      }
    }

    set draft(entries) {
      store.set(this.storageKey, JSON.stringify(entries));
    }

    forgetOtherTrials() {
      const own = (key) => key.startsWith("twopane_draft_") && key !== this.storageKey;
      store.remove(...store.keys().filter(own));
    }

    /* Gradio has put in a new form, or changed this one: bring entries and counter up to date. */
    rendered() {
      const form = this.form;
      if (!form) return;
      const { trial, turns, editedAt, editable } = form.dataset;
      const version = [trial, turns, editedAt, editable, this.open].join();
      if (form !== this.known || version !== this.version) {
        this.known = form;
        this.version = version;
        this.forgetOtherTrials();
        this.restore();
      }
      this.count();
      this.showReveal(!editable && this.trial === trial && this.wasEditable);
      if (this.trial && this.trial !== trial) this.beginAnother();
      page.prompt?.forgetAsked();
      this.trial = trial;
      this.wasEditable = Boolean(editable);
      if (this.open && this.offered !== `${trial} ${turns}`) {
        this.offered = `${trial} ${turns}`;
        this.offerFocus();
      }
    }

    beginAnother() {
      const session = document.querySelector(".tp-session");
      if (session) session.scrollIntoView({ block: "start" });
      else page.prompt?.box.focus();
    }

    showReveal(justSaved) {
      if (!justSaved) return;
      focusOnceEnabled(document.querySelector("#new"));
      document.querySelector(".tp-reveal")?.scrollIntoView({ block: "center" });
    }

    /* Keys work at once, unless the rater is typing somewhere. */
    offerFocus() {
      const field = document.activeElement;
      if (field?.matches("textarea, input:not([type=radio])") && field.value) return;
      const next = this.rows.find((row) => !this.valueOf(row));
      if (next) this.goTo(next, true);
    }

    valueOf(row) {
      return row.querySelector("input:checked")?.value;
    }

    entries() {
      const scores = { left: {}, right: {} };
      const whole = { preference: null };
      for (const row of this.rows) {
        const value = this.valueOf(row);
        if (!value) continue;
        const [side, dimension] = row.dataset.row.split(".");
        if (dimension) scores[side][dimension] = value === "na" ? "na" : Number(value);
        else whole[side] = value; // the preference, or the guess
      }
      return { scores, ...whole, comment: this.form.querySelector("textarea").value };
    }

    edited() {
      this.count();
      this.draft = { ...this.entries(), edited_at: Date.now() };
      clearTimeout(this.draftTimer);
      this.draftTimer = setTimeout(() => this.saveDraft(), 300);
    }

    saveDraft() {
      if (this.draft) this.trigger("draft", { trial: this.form.dataset.trial, entries: this.draft });
    }

    /* What was entered while the server could not be reached is newer than what it knows. */
    restore() {
      const form = this.form;
      if (!form.dataset.editable) return store.remove(this.storageKey);
      const kept = this.draft;
      if (!kept || kept.edited_at <= Number(form.dataset.editedAt)) return;
      for (const row of this.rows) {
        const [side, dimension] = row.dataset.row.split(".");
        const value = dimension ? kept.scores?.[side]?.[dimension] : kept[side];
        const input = value && row.querySelector(`input[value="${value}"]:not([disabled])`);
        if (input) input.checked = true;
      }
      form.querySelector("textarea").value = kept.comment ?? "";
      this.saveDraft();
    }

    count() {
      const missing = this.rows.filter((row) => !this.valueOf(row)).length;
      const name = missing === 0 ? "missing_none" : missing === 1 ? "missing_one" : "missing_many";
      const counter = this.form.querySelector("[data-missing]");
      const words = text(name, { n: missing });
      if (counter && counter.textContent !== words) counter.textContent = words;
      this.form.classList.toggle("complete", missing === 0);
    }

    mark(row) {
      if (!this.form) return;
      for (const other of this.rows) other.classList.toggle("current", other === row);
    }

    goTo(row, quietly = false) {
      if (!row) return;
      const input = row.querySelector("input:checked:not([disabled])") ?? row.querySelector("input:not([disabled])");
      input.focus({ preventScroll: quietly });
      this.mark(row);
      if (!quietly) row.scrollIntoView({ block: "nearest" });
    }

    /* The row that digits fill: the marked one, else the first that is empty. */
    get current() {
      return this.form.querySelector("[data-row].current") ?? this.rows.find((row) => !this.valueOf(row)) ?? this.rows[0];
    }

    moveOn(row) {
      const rows = this.rows;
      const next = rows[rows.indexOf(row) + 1];
      if (next) this.goTo(next);
      else this.form.querySelector("[data-action=send]")?.focus();
    }

    choose(row, value) {
      const input = row.querySelector(`input[value="${value}"]:not([disabled])`);
      if (!input) return;
      input.checked = true;
      this.edited();
      this.moveOn(row);
    }

    clicked(event) {
      const action = event.target.closest("[data-action]")?.dataset.action;
      if (action === "send") this.send();
      if (action === "keys") this.help();
    }

    help() {
      const dialog = this.element.querySelector("dialog");
      if (dialog && !dialog.open) dialog.showModal();
    }

    send() {
      if (!this.open) return;
      const missing = this.rows.find((row) => !this.valueOf(row));
      if (missing) return this.goTo(missing);
      clearTimeout(this.draftTimer);
      this.trigger("send", { trial: this.form.dataset.trial, entries: this.entries() });
    }

    keyed(event) {
      if (!this.form || event.isComposing || event.altKey || event.metaKey) return;
      if (this.element.querySelector("dialog")?.open) return;
      const field = event.target;
      const inForm = this.form.contains(field);
      const typing = field.matches?.("textarea, select, [contenteditable], input:not([type=radio])");
      if (event.key === "Enter" && event.ctrlKey) {
        if (this.open && (inForm || !typing)) this.stopKey(event, () => this.send());
        return;
      }
      if (event.ctrlKey) return;
      if (typing) {
        if (event.key === "Escape" && inForm) this.stopKey(event, () => this.goTo(this.current));
        return;
      }
      if (event.key === "?") return this.stopKey(event, () => this.help());
      if (this.open) this.keyedInGrid(event);
    }

    keyedInGrid(event) {
      const row = this.current;
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (/^[1-5]$/.test(event.key)) this.stopKey(event, () => this.digit(row, Number(event.key)));
      else if (event.key.toLowerCase() === "n") this.stopKey(event, () => this.choose(row, "na"));
      else if (event.key.toLowerCase() === "c") this.stopKey(event, () => this.form.querySelector("textarea").focus());
      else if (step && this.form.contains(event.target)) {
        this.stopKey(event, () => this.goTo(this.rows[this.rows.indexOf(row) + step]));
      }
    }

    digit(row, number) {
      const listed = !row.dataset.row.includes(".");
      this.choose(row, listed ? row.querySelectorAll("input")[number - 1]?.value : number);
    }

    stopKey(event, act) {
      event.preventDefault();
      event.stopPropagation();
      act();
    }
  }

  page.attachRating = (element, trigger) => new RatingForm(element, trigger);

  // --- the sessions page ------------------------------------------------------------------------

  page.attachSessions = (element, trigger) => {
    const open = new Set(); // what was unfolded stays so when the server sends news
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-action]");
      const session = button?.closest("[data-session]")?.dataset.session;
      if (!session || (button.dataset.sure && !confirm(button.dataset.sure))) return;
      trigger("act", { session, action: button.dataset.action });
    });
    element.addEventListener(
      "toggle",
      ({ target }) => open[target.open ? "add" : "delete"](target.dataset.keep),
      true,
    );
    new MutationObserver(() => {
      for (const one of element.querySelectorAll("details[data-keep]")) {
        if (open.has(one.dataset.keep)) one.open = true;
      }
    }).observe(element, { childList: true, subtree: true });
  };

  /* A file is read here and put into the boxes as text: the server takes no uploads. */
  page.attachFile = (element) => {
    const fill = (selector, value) => {
      const box = document.querySelector(selector);
      if (!box) return;
      box.value = value;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    };
    element.addEventListener("change", async ({ target }) => {
      const file = target.files?.[0];
      if (!file) return;
      const note = element.querySelector("[data-file-note]");
      const limit = 900_000; // with room for what JSON adds
      try {
        if (file.size > limit) throw new RangeError();
        const content = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
        if (new Blob([JSON.stringify(content)]).size > limit) throw new RangeError();
        fill("#set-file input, #set-file textarea", file.name);
        fill("#set-content textarea", content);
        note.textContent = text("file_read", { name: file.name });
      } catch (error) {
        note.textContent = text(error instanceof RangeError ? "file_too_large" : "file_unreadable", { name: file.name });
      }
      target.value = ""; // the same file again is a change then
    });
  };

  // --- the prompt box ---------------------------------------------------------------------------

  /* Keeps a prompt that has not been asked yet over a reload. */
  class PromptBox {
    constructor(box) {
      this.box = box;
      const kept = store.get("twopane_prompt");
      if (kept && !box.value) this.fill(kept);
      box.addEventListener("input", () => store.set("twopane_prompt", box.value));
    }

    fill(prompt) {
      this.box.value = prompt;
      this.box.dispatchEvent(new Event("input", { bubbles: true }));
    }

    /* The server empties the box once it has stored the prompt. */
    forgetAsked() {
      if (!this.box.value) store.remove("twopane_prompt");
    }
  }

  page.attachSuggestions = (element) => {
    whenPresent("#prompt textarea", (box) => (page.prompt = new PromptBox(box)));
    element.addEventListener("click", (event) => {
      const prompt = event.target.closest("button[data-prompt]")?.dataset.prompt;
      if (!prompt || !page.prompt) return;
      page.prompt.fill(prompt);
      page.prompt.box.focus();
    });
  };
})();
