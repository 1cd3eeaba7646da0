// What pages gain when scripts run. Every page works without this file: it adds comfort, never a rule.
"use strict";

(() => {
  const dialog = document.getElementById("dialog");
  const announcer = document.getElementById("announcer");

  function announce(text) {
    // Emptied first, so that the same sentence twice is read twice.
    announcer.textContent = "";
    window.setTimeout(() => {
      announcer.textContent = text;
    }, 50);
  }

  // --- Dialogs: a fragment that htmx swaps into #dialog is shown as a modal -------------------
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== dialog || !dialog.hasChildNodes()) return;
    // Not a moment later, as htmx would: it must hear the Enter that answers at once.
    htmx.process(dialog);
    if (!dialog.open) dialog.showModal();
    // The least destructive choice gets the focus, unless there is something to type or to mend.
    const first =
      dialog.querySelector("[aria-invalid=true]") ||
      dialog.querySelector("[autofocus]") ||
      dialog.querySelector("[data-dialog-close]");
    // Where that lies below what is seen of the dialog, reading begins at the top: what it says comes before the answer.
    dialog.scrollTop = 0;
    const heading = dialog.querySelector("h1");
    // htmx would give the focus to it once more, a moment later.
    for (const one of dialog.querySelectorAll("[autofocus]")) one.removeAttribute("autofocus");
    if (first && heading && isBelow(first, dialog) && first.matches("input:not([aria-invalid]), a, button")) {
      heading.tabIndex = -1;
      heading.focus();
    } else if (first) {
      first.focus();
    }
  });

  function isBelow(element, container) {
    return element.getBoundingClientRect().bottom > container.getBoundingClientRect().bottom;
  }

  document.addEventListener("click", (event) => {
    const closer = event.target.closest("[data-dialog-close]");
    if (!closer || !dialog.open) return;
    event.preventDefault();
    dialog.close();
  });

  // The service says so with `HX-Trigger: dialog:close`.
  document.addEventListener("dialog:close", () => dialog.close());
  dialog.addEventListener("close", () => dialog.replaceChildren());

  // --- What the service says between pages ----------------------------------------------------
  // `HX-Trigger: {"announce": "Disabled pump-042."}`
  document.addEventListener("announce", (event) => announce(event.detail.value));

  document.addEventListener("htmx:afterSettle", () => {
    const wanted = document.querySelector("[data-focus-after-swap]");
    if (wanted) {
      wanted.removeAttribute("data-focus-after-swap");
      if (wanted.tabIndex < 0) wanted.setAttribute("tabindex", "-1");
      wanted.focus();
    }
    countSelections();
  });

  // --- Lists: a page, order or filter that htmx brought into #results ---------------------------
  let hadFocus = false;
  let settled = null;

  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id === "results") {
      hadFocus = event.detail.target.contains(document.activeElement);
    }
  });

  document.addEventListener("htmx:afterSettle", (event) => {
    // It comes once for each element that was swapped in; one answer is read out once.
    if (event.detail.target?.id !== "results" || event.detail.xhr === settled) return;
    settled = event.detail.xhr;
    const results = document.getElementById("results");
    const summary = results.querySelector("[data-announce]");
    if (summary) announce(summary.textContent);
    // htmx gives the focus back by id. Where that link is no more, as after the last page, the list has it.
    if (hadFocus && document.activeElement === document.body) {
      results.setAttribute("tabindex", "-1");
      results.focus();
    }
  });

  // --- What opens another page stays out of htmx, which would put the answer into this one ------
  document.addEventListener(
    "submit",
    (event) => {
      if (event.submitter?.formTarget === "_blank") event.stopPropagation();
    },
    true,
  );

  function showFailure(text) {
    // Outside an open modal everything is inert, also for screen readers.
    const place = dialog.open ? dialog : document.getElementById("failures");
    place.querySelector(".failure")?.remove();
    const message = document.createElement("div");
    message.className = "failure alert alert-danger";
    message.setAttribute("role", "alert");
    message.textContent = text;
    place.prepend(message);
    message.scrollIntoView({ block: "nearest" });
  }

  // More than this the listener does not read (dpsportal/serving/limits.py), nor does nginx as it comes.
  const MOST_BYTES = 1024 * 1024;
  const TOO_LARGE =
    "With this the form is larger than 1 MiB, the most that is accepted, and nothing was saved. " +
    "Choose a smaller file; a certificate has a few KiB.";

  function bytesOfFiles(form) {
    const inputs = [...(form?.querySelectorAll("input[type=file]") ?? [])];
    return inputs.flatMap((input) => [...input.files]).reduce((sum, file) => sum + file.size, 0);
  }

  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 413) {
      showFailure(TOO_LARGE);
    } else if (status === 401 || status === 403) {
      showFailure("This was refused: your role does not allow it, or your session has ended. Reload the page.");
    } else if (status === 404) {
      showFailure("This is no longer there: somebody may have deleted it. Reload the page.");
    } else {
      showFailure(`The service answered with error ${status}. Reload the page to see what holds now.`);
    }
  });
  document.addEventListener("htmx:sendError", () => {
    showFailure("The service did not answer. Reload the page to see whether the change was made.");
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    // What asks for itself again ([data-live]) waits while nobody looks, or while somebody is about to use it.
    if (event.detail.elt.matches("[data-live]")) {
      if (document.hidden || dialog.open || event.detail.elt.contains(document.activeElement)) event.preventDefault();
      return;
    }
    document.querySelector("#failures .failure")?.remove();
    if (bytesOfFiles(event.detail.elt.closest("form")) < MOST_BYTES) return;
    // Nobody waits for an upload to learn that it is too large.
    event.preventDefault();
    showFailure(TOO_LARGE);
  });

  // --- Copying: <button data-copy="id of the element whose text is wanted"> -------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      announce("Copied.");
      button.classList.add("copied");
      window.setTimeout(() => button.classList.remove("copied"), 2000);
    } catch {
      // No clipboard without HTTPS or without permission: select the text instead, and say so.
      window.getSelection().selectAllChildren(source);
      announce("The text is selected: press Ctrl and C to copy it.");
    }
  });

  // --- Choosing rows: [data-select-form] holds the table and its bulk buttons -----------------
  function countSelections() {
    for (const form of document.querySelectorAll("[data-select-form]")) {
      const rows = [...form.querySelectorAll("[data-select-row]")];
      const chosen = rows.filter((row) => row.checked).length;
      for (const all of form.querySelectorAll("[data-select-all]")) {
        all.checked = rows.length > 0 && chosen === rows.length;
        all.indeterminate = chosen > 0 && chosen < rows.length;
        all.disabled = rows.length === 0;
      }
      for (const count of form.querySelectorAll("[data-select-count]")) {
        const text = `${chosen} selected`;
        if (count.textContent !== text) count.textContent = text;
      }
      for (const button of form.querySelectorAll("[data-bulk]")) button.disabled = chosen === 0;
    }
  }

  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-select-all]");
    if (all) {
      for (const row of all.closest("[data-select-form]").querySelectorAll("[data-select-row]")) {
        row.checked = all.checked;
      }
    }
    if (all || event.target.closest("[data-select-row]")) countSelections();
  });
  countSelections();
  // A page that comes out of the browser's own cache brings its check marks along.
  window.addEventListener("pageshow", countSelections);

  // --- A chosen file: <input type="file" data-submits="id of the preview button"> -------------
  document.addEventListener("change", (event) => {
    const input = event.target.closest("input[type=file][data-submits]");
    if (input && input.files.length > 0) document.getElementById(input.dataset.submits).click();
  });

  // --- Times are written in UTC; pointing at one shows the reader's own zone ------------------
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest("time[datetime]");
    if (!time || time.dataset.local) return;
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) return;
    time.dataset.local = "shown";
    time.title = moment.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  });

  // --- Menus made of <details>: one at a time, closed by Escape and by a click elsewhere ------
  function closeMenus(except) {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (menu !== except) menu.open = false;
    }
  }

  document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = event.target.closest("details.menu[open]");
    closeMenus();
    if (menu) menu.querySelector("summary").focus();
  });
})();
