// Makes pages live and the slider slide. Without it everything works, by the reload of the page.
"use strict";
(() => {
  const QUIET_MS = 250; // changes come in bursts
  const AT_MOST_EVERY_MS = 1000;
  const KINDS = ["revision", "rollout", "look", "instance", "gate", "leader", "store", "reset"];
  const topics = (document.body.dataset.topics || "").split(" ").filter(Boolean);
  const every_s = Number(document.body.dataset.every || 0);
  const note = document.getElementById("live");
  let source = null, timer = null, asking = false, again = false, asked_ms = 0;

  const say = (text) => { if (note) { note.textContent = text; note.hidden = !text; } };

  const concerns = (kind, data) => {
    if (!["revision", "rollout", "look", "instance"].includes(kind)) return true;
    if (topics.includes(kind)) return true;
    let about = "";
    try { about = JSON.parse(data).service || ""; } catch { return true; }
    return topics.includes(`${kind}:${about}`);
  };

  // Puts what is new in its place; what has the focus, and what is open, stays so.
  const put = (old, fresh) => {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : "");
    const open = new Map([...old.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    for (const one of fresh.querySelectorAll("details[id]")) if (open.has(one.id)) one.open = open.get(one.id);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((one, number) => { one.scrollLeft = scrolled[number] || 0; });
    if (key) fresh.querySelector(key)?.focus({ preventScroll: true });
    if (fresh.classList.contains("card")) fresh.classList.add("fresh");
  };

  // Ages ("3 s ago") change by themselves, and are no news.
  const plain = (node) => { const copy = node.cloneNode(true); copy.querySelectorAll("time").forEach((one) => { one.textContent = ""; }); copy.querySelectorAll("details").forEach((one) => { one.removeAttribute("open"); }); copy.classList.remove("fresh"); return copy.outerHTML; };

  const refresh = async () => {
    timer = null;
    if (asking) { again = true; return; }
    asking = true; asked_ms = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { "X-Console-Fragment": "1" }, credentials: "same-origin", cache: "no-store" });
      if (answer.status === 401) { stop(); say("You were logged out. Reload the page to log in again; what it shows may be old."); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!page.getElementById("state")) return;
      for (const old of document.querySelectorAll("[data-live]")) {
        const fresh = page.getElementById(old.id);
        if (!fresh) continue;
        if (fresh.dataset.announce && fresh.dataset.announce !== old.dataset.announce) document.getElementById("announce").textContent = fresh.dataset.announce;
        if (plain(old) !== plain(fresh)) put(old, document.adoptNode(fresh));
      }
      say("");
    } catch {
      say("The control plane does not answer; what you see may be old. Trying again.");
      timer = setTimeout(refresh, 3000);
    } finally {
      asking = false;
      if (again) { again = false; soon(); }
    }
  };

  const soon = () => {
    if (timer === null) timer = setTimeout(refresh, Math.max(QUIET_MS, asked_ms + AT_MOST_EVERY_MS - Date.now()));
  };

  const start = () => {
    if (source || document.hidden || !topics.length) return;
    source = new EventSource("/console/events");
    for (const kind of KINDS) source.addEventListener(kind, (event) => { if (concerns(kind, event.data)) soon(); });
    source.onopen = () => say("");
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(() => { refresh(); start(); }, 3000); }
      else say("Live updates are interrupted; what you see may be old. Connecting again.");
    };
  };
  const stop = () => { if (source) source.close(); source = null; };

  // A page nobody looks at needs no stream; one that is looked at again begins with the truth.
  document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else { if (topics.length) refresh(); start(); } });
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => { if (event.persisted) { if (topics.length) refresh(); start(); } });
  if (document.querySelector("[data-live]")) start();
  if (every_s) setInterval(() => { if (!document.hidden) refresh(); }, every_s * 1000);

  for (const form of document.querySelectorAll("form.weights")) {
    const rows = [...form.querySelectorAll(".weight")].map((row) => [row.querySelector("[type=range]"), row.querySelector("[type=number]")]);
    const rest = form.querySelector("output");
    const show = () => { if (rest) rest.textContent = `${Math.max(0, Math.round(1e4 * (100 - rows.reduce((sum, [, number]) => sum + Number(number.value || 0), 0))) / 1e4)} %`; };
    for (const [range, number] of rows) {
      range.hidden = false;
      range.value = number.value;
      range.addEventListener("input", () => { number.value = range.value; show(); });
      number.addEventListener("input", () => { range.value = number.value; show(); });
    }
    show();
  }
})();
