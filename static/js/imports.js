// Sends the files of an import in pieces that the listener reads, one after the other. Without this file the form
// brings them itself, as long as they are small.
"use strict";

(() => {
  const form = document.querySelector("form[data-in-pieces]");
  if (!form) return;
  const TRIES = 4;
  const progress = form.querySelector("[data-upload-progress]");
  const bar = progress.querySelector("progress");
  const words = progress.querySelector("[data-upload-words]");
  const failure = form.querySelector("[data-upload-failure]");
  const button = form.querySelector("button[type=submit]");

  class Refused extends Error {}

  async function send(url, body) {
    for (let left = TRIES - 1; ; left -= 1) {
      try {
        const answer = await fetch(url, { method: "POST", body, credentials: "same-origin" });
        if (answer.ok) return answer;
        const told = await answer.json().catch(() => null);
        const otherwise = `The service answered with error ${answer.status}. Reload the page and try again.`;
        throw new Refused(told?.message ?? otherwise);
      } catch (error) {
        if (error instanceof Refused || left === 0) throw error;
        // The line may be back in a moment. A piece that came twice is kept once.
        await new Promise((resolve) => window.setTimeout(resolve, 1500));
      }
    }
  }

  function withToken() {
    const data = new FormData();
    data.set("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    return data;
  }

  async function begin(list, archive) {
    const data = withToken();
    data.set("in_pieces", "on");
    data.set("list_name", list.name);
    data.set("archive_name", archive?.name ?? "");
    data.set("reason", form.elements.reason.value);
    return (await send(form.action, data)).json();
  }

  async function upload(list, archive) {
    const where = await begin(list, archive);
    const total = list.size + (archive?.size ?? 0);
    let sent = 0;
    for (const [file, url] of [[list, where.list], [archive, where.archive]]) {
      for (let number = 0; file && number * where.part_bytes < file.size; number += 1) {
        const piece = file.slice(number * where.part_bytes, (number + 1) * where.part_bytes);
        const data = withToken();
        data.set("part", piece, "part");
        await send(url.replace(/0\/$/, `${number}/`), data);
        sent += piece.size;
        bar.value = sent / total;
        words.textContent = `${Math.floor((100 * sent) / total)} % of ${(total / 1048576).toFixed(1)} MB`;
      }
    }
    await send(where.check, withToken());
    window.location.assign(where.page);
  }

  form.addEventListener("submit", async (event) => {
    const list = form.elements.list.files[0];
    // What is missing the service says itself.
    if (!list) return;
    event.preventDefault();
    failure.hidden = true;
    progress.hidden = false;
    button.disabled = true;
    try {
      await upload(list, form.elements.archive.files[0]);
    } catch (error) {
      failure.textContent =
        error instanceof Refused ? error.message : "The service did not answer. Try again when it does.";
      failure.hidden = false;
      progress.hidden = true;
      failure.scrollIntoView({ block: "nearest" });
    } finally {
      button.disabled = false;
    }
  });
})();
