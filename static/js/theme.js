// Loaded in <head>, before the first paint: decides light or dark, and tells the stylesheet that scripts run.
"use strict";

(() => {
  const root = document.documentElement;
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");

  // Where the browser forbids storage, reading it throws: the choice then lasts as long as the page.
  let choice = "auto";
  try {
    choice = localStorage.getItem("theme") || "auto";
  } catch (error) {
    console.info("The theme cannot be remembered:", error.message);
  }

  function show() {
    const dark = choice === "dark" || (choice === "auto" && systemIsDark.matches);
    root.setAttribute("data-bs-theme", dark ? "dark" : "light");
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
    }
  }

  root.classList.add("has-script");
  show();
  systemIsDark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-choice]");
    if (!button) return;
    choice = button.dataset.themeChoice;
    show();
    try {
      localStorage.setItem("theme", choice);
    } catch (error) {
      console.info("The theme cannot be remembered:", error.message);
    }
  });
})();
