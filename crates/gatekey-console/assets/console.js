// Comfort alone: each form and link works without.
"use strict";
(() => {
  const all = (what, from = document) => from.querySelectorAll(what);

  // A form with an error: tell it at once to who does not see it.
  const problem = document.querySelector("[data-focus]");
  if (problem) problem.focus();

  // Copy: by the clipboard where the origin is secure, else by a selection.
  all("[data-copy]").forEach((button) => {
    const field = document.getElementById(button.dataset.copy);
    const status = document.getElementById("copy-status");
    button.hidden = false;
    field.addEventListener("focus", () => field.select());
    button.addEventListener("click", async () => {
      let done = false;
      try {
        await navigator.clipboard.writeText(field.value);
        done = true;
      } catch {
        field.focus();
        field.select();
        try {
          done = document.execCommand("copy");
        } catch {
          done = false;
        }
      }
      status.textContent = "";
      status.textContent = done ? button.dataset.copied : button.dataset.byHand;
    });
  });

  // One press is one request.
  all("form[data-once]").forEach((form) => {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) {
        event.preventDefault();
        return;
      }
      form.dataset.sent = "1";
      setTimeout(() => delete form.dataset.sent, 5000);
    });
  });
  addEventListener("pageshow", () => all("form[data-once]").forEach((form) => delete form.dataset.sent));

  // What must be typed, before the button does anything.
  all("[data-expect]").forEach((field) => {
    const button = field.form.querySelector("button");
    const look = () => button.setAttribute("aria-disabled", String(field.value !== field.dataset.expect));
    field.addEventListener("input", look);
    field.form.addEventListener("submit", (event) => {
      if (field.value !== field.dataset.expect) {
        event.preventDefault();
        delete field.form.dataset.sent;
        field.focus();
      }
    });
    look();
  });

  // All rows at once.
  all("[data-all]").forEach((box) => {
    box.closest("label").hidden = false;
    const rows = () => all('input[name="pick"]', box.form);
    box.addEventListener("change", () => rows().forEach((row) => (row.checked = box.checked)));
    rows().forEach((row) => row.addEventListener("change", () => {
      box.checked = [...rows()].every((row) => row.checked);
    }));
  });

  // A step that waits for something: ask now and then, and show the page anew.
  all("[data-poll]").forEach((step) => {
    const text = step.querySelector("[data-polling]");
    if (text) text.hidden = false;
    const ask = async () => {
      try {
        const answer = await fetch(step.dataset.poll, { headers: { accept: "text/plain" } });
        if (answer.ok && (await answer.text()) === "yes") {
          location.reload();
          return;
        }
        if (!answer.ok) return;
      } catch {
        // The next time, perhaps.
      }
      setTimeout(ask, 3000);
    };
    setTimeout(ask, 3000);
  });
})();
