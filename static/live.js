// Updates running clocks and polls the page. Regions marked `data-live` are patched in place, so focus, selection,
// scroll position, open details and form input are kept. Also handles keyboard shortcuts, copying and the selection of
// all rows. Without JavaScript every page works after a reload.
"use strict";

const EVERY = 1200; // poll interval in milliseconds; with the cache of the server a change is visible within two seconds
const CALM_AFTER = 180000; // milliseconds without a change and without input …
const CALM = 8000; // … until this interval is used; input or a change restores the short one
const SLOWEST = 15000; // longest interval while the server is unavailable
const FRESH = 3; // seconds

const root = document.documentElement;
const WORDS = JSON.parse(document.body.dataset.words);
const [sign, hold, banner] = ["live", "hold", "banner"].map((id) => document.getElementById(id));
const main = document.getElementById("content");

root.dataset.scripted = "";

// --- clocks ---

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const two = (number) => String(number).padStart(2, "0");
const said = (word, values) => WORDS[word].replace(/%\((\w+)\)s/g, (_, name) => values[name]);

function largest(seconds) {
  const [size, unit] = UNITS.find(([size]) => seconds >= size) || UNITS[3];
  return said(unit, { count: Math.floor(seconds / size) });
}

function spelled(seconds) {
  const first = Math.max(0, UNITS.findIndex(([size]) => seconds >= size));
  const parts = [];
  for (const [size, unit] of seconds ? UNITS.slice(first, first + 2) : [[1, "s"]]) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count || !parts.length) parts.push(said(unit, { count }));
  }
  return parts.join(" ");
}

const CLOCKS = {
  left(seconds) {
    const left = Math.max(0, Math.round(-seconds));
    const [hours, minutes] = [Math.floor(left / 3600), Math.floor(left / 60) % 60];
    return `${hours ? `${hours}:` : ""}${two(minutes)}:${two(left % 60)}`;
  },
  ago(seconds) {
    const whole = Math.round(seconds);
    if (Math.abs(whole) < 2) return WORDS.now;
    return said(whole > 0 ? "ago" : "in", { time: largest(Math.abs(whole)) });
  },
  due: (seconds) => CLOCKS.ago(Math.min(seconds, 0)),
  open: (seconds) => spelled(Math.max(0, Math.floor(seconds < 60 ? seconds : seconds - (seconds % 60)))),
  for: (seconds) => spelled(Math.max(0, Math.floor(seconds))),
};

let ahead = 0; // milliseconds by which the browser's clock is ahead of the server's

function tick() {
  for (const time of document.querySelectorAll("time[data-tick]:not([data-tick=now])")) {
    const text = CLOCKS[time.dataset.tick]((Date.now() - ahead - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text && !isHeld(time)) time.textContent = text;
  }
  if (sign) showAge();
}

// --- regions ---

const touched = new WeakSet(); // fields that the user has changed
let postponed = false; // an update was skipped and must be retried

for (const kind of ["input", "change"]) addEventListener(kind, ({ target }) => touched.add(target), true);

/** Return true if the node is part of the selected text. */
function isHeld(node) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(node, true);
}

/** Patch `old` to match `fresh` with few changes. Elements with an id are matched even if they moved. */
function update(old, fresh) {
  if (old.isEqualNode(fresh) || touched.has(old)) return;
  if (old.nodeName !== fresh.nodeName || old.nodeType !== Node.ELEMENT_NODE) {
    if (isHeld(old)) postponed = true;
    else if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) old.data = fresh.data;
    else old.replaceWith(fresh);
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
  }
  const staying = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  const known = new Map();
  for (const child of [...old.children]) {
    if (!child.id) continue;
    if (staying.has(child.id)) known.set(child.id, child);
    else remove(child);
  }
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    let twin = child.id ? known.get(child.id) : next;
    if (twin && !child.id && (twin.id || twin.nodeName !== child.nodeName)) twin = null;
    if (!twin) {
      old.insertBefore(child, next);
    } else {
      if (twin === next) next = next.nextSibling;
      else old.insertBefore(twin, next);
      update(twin, child);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    remove(gone);
  }
}

function remove(node) {
  if (isHeld(node)) postponed = true;
  else node.remove();
}

/** Add, remove and patch regions. The rest of the page is not changed. */
function weave(old, fresh, regions) {
  const still = [...old.children].filter((child) => !child.hasAttribute("data-live"));
  let last = null;
  for (const child of [...fresh.children]) {
    if (child.hasAttribute("data-live")) {
      const twin = document.getElementById(child.id);
      if (twin) update(twin, child);
      else if (last) last.after(child);
      else old.prepend(child);
      last = twin ? (twin.parentNode === old ? twin : last) : child;
    } else {
      const place = still.findIndex((one) => one.nodeName === child.nodeName && one.id === child.id && one.className === child.className);
      if (place < 0) continue;
      [last] = still.splice(0, place + 1).slice(-1);
      weave(last, child, regions);
    }
  }
  for (const child of [...old.children]) {
    if (child.hasAttribute("data-live") && !regions.has(child.id)) remove(child);
  }
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const page = fresh.getElementById("content");
  if (!page) return;
  const [focused, previous] = [document.activeElement, announcements()];
  postponed = false;
  weave(main, page, new Set([...page.querySelectorAll("[data-live]")].map((region) => region.id)));
  document.title = fresh.title;
  if (focused !== document.activeElement) (focused.isConnected ? focused : main).focus({ preventScroll: true });
  count();
  tick();
  const news = [...announcements()].filter(([place, text]) => previous.get(place) !== text).map(([, text]) => text);
  if (news.length) announce(news.join(". "));
}

/** Return the texts whose changes screen readers announce. */
function announcements() {
  return new Map([...document.querySelectorAll("[data-announce]")].map((one) => [one.closest("[id]")?.id, one.textContent.trim()]));
}

function announce(text) {
  document.getElementById("news").textContent = text;
}

// --- polling ---

let [etag, timer, pause, asking] = [null, 0, EVERY, false];
let [seenAt, newsAt, lookedAt, tries] = [Date.now(), Date.now(), Date.now(), 0];
let paused = sessionStorage.getItem("paused") === "yes";

async function ask() {
  const headers = { "X-Refresh": "1", ...(etag && { "If-None-Match": etag }) };
  const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(10000) });
  if (answer.type === "opaqueredirect" || answer.status === 401) return "out"; // redirect to sign-in
  if (answer.status === 304) return "on";
  if (answer.status === 404) return "missing";
  if (answer.status !== 200) return "broken";
  const html = await answer.text();
  if (paused) return "on";
  const first = etag === null;
  show(html);
  etag = postponed ? null : answer.headers.get("ETag");
  if (!first) newsAt = Date.now();
  return "on";
}

async function look() {
  clearTimeout(timer);
  if (asking || !sign) return;
  asking = true;
  lookedAt = Date.now();
  const word = await ask().catch(() => "gone");
  asking = false;
  tries = word === "on" ? 0 : tries + 1;
  if (word === "on") seenAt = Date.now();
  const calm = Date.now() - newsAt > CALM_AFTER;
  pause = tries ? Math.min(pause * 2, SLOWEST) : calm ? Math.min(pause * 1.5, CALM) : EVERY;
  say(word);
  wait();
}

function wait() {
  clearTimeout(timer);
  const ended = ["out", "missing"].includes(sign.dataset.now);
  if (!document.hidden && !paused && !ended) timer = setTimeout(look, pause);
}

function say(word) {
  const before = sign.dataset.now;
  sign.dataset.now = word;
  sign.dataset.paused = paused;
  hold.setAttribute("aria-pressed", paused);
  const trouble = word !== "on" && (tries > 1 || word === "out" || word === "missing");
  if (trouble && before !== word || trouble && banner.hidden) {
    const time = new Date(seenAt - ahead).toLocaleTimeString(root.lang, { hourCycle: "h23" });
    banner.querySelector("span").textContent = said(word, { time });
    banner.querySelector("a").hidden = word !== "out";
    banner.querySelector("button").hidden = word === "out" || word === "missing";
  }
  if (!trouble && !banner.hidden) announce(WORDS.back);
  banner.hidden = !trouble;
  showAge();
}

function showAge() {
  const age = Math.max(0, Math.floor((Date.now() - seenAt) / 1000));
  const word = paused ? "paused" : age < FRESH ? "fresh" : "updated";
  const text = said(word, { time: largest(age) });
  const place = sign.firstElementChild;
  if (place.textContent !== text) place.textContent = text;
}

function setPaused(value) {
  paused = value;
  sessionStorage.setItem("paused", paused ? "yes" : "no");
  say(sign.dataset.now || "on");
  announce(paused ? WORDS.pausing : WORDS.going_on);
  if (paused) clearTimeout(timer);
  else look();
}

/** Restore the short interval after user input. */
function wake() {
  newsAt = Date.now();
  if (pause <= EVERY || tries || paused) return;
  pause = EVERY;
  if (Date.now() - lookedAt > EVERY) look();
  else wait();
}

if (sign) {
  ahead = Date.now() - Date.parse(sign.querySelector("time").dateTime);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    newsAt = Date.now();
    pause = EVERY;
    if (!document.hidden && !paused) look();
  });
  addEventListener("online", () => paused || look());
  addEventListener("pageshow", ({ persisted }) => persisted && !paused && look());
  for (const kind of ["pointermove", "pointerdown", "keydown", "wheel", "touchmove"]) {
    addEventListener(kind, wake, { passive: true, capture: true });
  }
  hold.addEventListener("click", () => setPaused(!paused));
  banner.querySelector("button").addEventListener("click", look);
  say("on");
  setInterval(tick, 1000);
  wait();
}

// --- the reader's time zone ---

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && zone !== root.dataset.zone) {
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  if (sign && document.cookie.includes(`zone=${zone}`)) location.reload();
}

// --- keys ---

const keys = document.getElementById("keys");
const rows = () => [...main.querySelectorAll("tbody tr, [data-row]")].filter((row) => row.checkVisibility() && opener(row));
const opener = (row) => row.querySelector("[data-open], a[href]");
let leaderAt = 0; // when `g` was pressed

/** Return the Latin key, also on a Cyrillic layout. */
function keyOf({ key, code, shiftKey }) {
  if (code === "Slash" && ".,".includes(key)) return shiftKey ? "?" : "/";
  return /^Key[A-Z]$/.test(code) && !/^[a-z]$/i.test(key) ? code[3].toLowerCase() : key;
}

function step(by) {
  const all = rows();
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const row = all[Math.min(Math.max(at < 0 ? 0 : at + by, 0), all.length - 1)];
  if (row) opener(row).focus();
  row?.scrollIntoView({ block: "nearest" });
}

const KEYS = {
  "?": () => keys.togglePopover(),
  "/"() {
    const field = main.querySelector("input[type=search], [role=search] input:not([type=hidden])");
    field?.focus();
    field?.select();
  },
  j: () => step(1),
  k: () => step(-1),
  p: () => sign && setPaused(!paused),
  g: () => { leaderAt = Date.now(); },
};

if (keys) {
  const on = document.getElementById("keys-on");
  on.checked = localStorage.getItem("keys") !== "off";
  keys.addEventListener("toggle", ({ newState }) => newState === "open" && keys.querySelector("button").focus());
  on.addEventListener("change", () => localStorage.setItem("keys", on.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    const { target, ctrlKey, altKey, metaKey, repeat } = event;
    if (ctrlKey || altKey || metaKey || !on.checked || event.defaultPrevented) return;
    if (target.isContentEditable || target.matches("input:not([type=checkbox], [type=radio]), textarea, select")) return;
    const key = keyOf(event);
    const led = Date.now() - leaderAt < 1500;
    leaderAt = 0;
    const place = led && document.querySelector(`nav a[data-key="${CSS.escape(key)}"]`);
    if (place) place.click();
    else if (!KEYS[key] || (repeat && !"jk".includes(key))) return;
    else KEYS[key]();
    event.preventDefault();
  });
}

// --- copying ---

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  source.closest("details")?.setAttribute("open", "");
  getSelection().selectAllChildren(source);
  // Without https the Clipboard API is unavailable; the old command still works.
  await navigator.clipboard?.writeText(source.textContent).catch(() => document.execCommand("copy"));
  if (!navigator.clipboard) document.execCommand("copy");
  button.dataset.done = "";
  setTimeout(() => delete button.dataset.done, 2000);
});

// --- selecting rows: `data-check-all` names the boxes, `data-ticked` the element with the count ---

const boxes = (name) => [...main.querySelectorAll(`input[type=checkbox][name="${CSS.escape(name)}"]`)];

function count() {
  for (const all of main.querySelectorAll("[data-check-all]")) {
    const [every, ticked] = [boxes(all.dataset.checkAll), boxes(all.dataset.checkAll).filter((box) => box.checked)];
    all.checked = every.length > 0 && ticked.length === every.length;
    all.indeterminate = ticked.length > 0 && !all.checked;
  }
  for (const place of main.querySelectorAll("[data-ticked]")) {
    place.textContent = boxes(place.dataset.ticked).filter((box) => box.checked).length;
  }
}

document.addEventListener("change", ({ target }) => {
  if (target.dataset.checkAll) {
    for (const box of boxes(target.dataset.checkAll)) {
      box.checked = target.checked;
      touched.add(box);
    }
  }
  count();
});
count();

// --- continued search ---

/** Continue a search without results, page by page. */
const onward = document.querySelector("a[data-onward]");
if (onward) location.replace(onward.href);
