"use strict";
// Every page works without this script. It copies, keeps times and figures current, and shows news.
(() => {
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];
  const TITLE = document.title;
  const all = (selector, root) => (root || document).querySelectorAll(selector);

  const duration = (seconds) => {
    for (const [unit, length] of UNITS) {
      if (seconds >= 2 * length) return `${Math.round(seconds / length)} ${unit}`;
    }
    return `${Math.round(seconds)} s`;
  };

  const refreshTimes = (root) => {
    for (const each of all("time[data-relative]", root)) {
      const seconds = (Date.now() - Date.parse(each.dateTime)) / 1000;
      each.textContent = seconds < 0 ? `in ${duration(-seconds)}` : `${duration(seconds)} ago`;
    }
  };

  const enhance = (root) => {
    for (const each of all("[data-copy]", root)) each.hidden = !navigator.clipboard;
    for (const each of all("[data-select-all]", root)) each.hidden = false;
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  });

  // A second click would send the form twice. A download leaves the page as it is.
  document.addEventListener("submit", (event) => {
    if (event.submitter && "download" in event.submitter.dataset) return;
    for (const each of all("button", event.target)) setTimeout(() => { each.disabled = true; });
  });
  addEventListener("pageshow", () => { for (const each of all("form button")) if (!each.dataset.disabled) each.disabled = false; });

  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    const search = document.querySelector("[data-search]");
    if (event.key === "/" && !typing && search) {
      event.preventDefault();
      for (const each of all("details")) if (each.contains(search)) each.open = true;
      search.focus();
    }
  });

  // Check boxes of a table: one in the header selects all rows of the page.
  document.addEventListener("change", (event) => {
    const header = event.target.closest("[data-select-all]");
    if (!header) return;
    for (const each of all("tbody input[type=checkbox]", header.closest("table"))) each.checked = header.checked;
  });

  // What the buttons of a selection apply to.
  const noteSelection = () => {
    const form = document.querySelector("[data-selection]");
    if (!form) return;
    const count = all("tbody input[type=checkbox]:checked", form).length;
    for (const each of all("[data-selection-note]", form)) {
      each.textContent = count ? `${count} of this page selected` : `Nothing selected: the buttons apply to ${each.dataset.selectionNote}`;
    }
  };
  document.addEventListener("change", () => setTimeout(noteSelection));
  addEventListener("pageshow", noteSelection);

  let source = null;
  const state = (text, name) => {
    for (const each of all("[data-live-state]")) {
      each.hidden = false;
      each.textContent = text;
      each.dataset.state = name;
    }
  };

  const FOCUSABLE = "a[href], button, [tabindex]";
  const replaceParts = (parts) => {
    for (const [id, html] of Object.entries(parts)) {
      const part = document.getElementById(id);
      if (!part) continue;
      const focused = [...all(FOCUSABLE, part)].indexOf(document.activeElement);
      part.innerHTML = html;
      enhance(part);
      refreshTimes(part);
      if (focused >= 0) all(FOCUSABLE, part)[focused]?.focus({ preventScroll: true });
    }
  };

  const offerNews = (count) => {
    for (const each of all("[data-news]")) {
      each.hidden = !count;
      each.href = location.href;
      each.textContent = `${count.toLocaleString("en")} new, show`;
    }
    document.title = count ? `(${count}) ${TITLE}` : TITLE;
  };

  const connect = () => {
    const address = document.body.dataset.live;
    if (!address || source) return;
    source = new EventSource(address);
    source.addEventListener("open", () => state("live", "open"));
    source.addEventListener("error", () => state("reconnecting …", "lost"));
    source.addEventListener("parts", (event) => replaceParts(JSON.parse(event.data)));
    source.addEventListener("news", (event) => offerNews(JSON.parse(event.data).count));
    source.addEventListener("done", () => { source.close(); location.reload(); });
  };

  // A browser opens six connections to a server; hidden tabs must not hold them.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) {
      source.close();
      source = null;
    } else if (!document.hidden) {
      connect();
      refreshTimes();
    }
  });

  enhance();
  // On a narrow screen the navigation scrolls.
  document.querySelector("nav [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" });
  setInterval(refreshTimes, 10000);
  if (!document.hidden) connect();
})();
