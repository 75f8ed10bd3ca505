// Keeps running clocks running, and asks the page for itself again: what stands in a region marked `data-live` is
// brought up to date in place, so focus, scroll and open details stay where they are. Without it, reload.
"use strict";

const EVERY = 1500; // milliseconds between two looks, so a change shows within two seconds
const SLOWEST = 15000; // between two tries while the connection is lost

const sign = document.getElementById("live");
let [etag, timer, pause] = [null, 0, EVERY];
let ahead = 0; // milliseconds by which this machine's clock is ahead of the server's

// --- clocks ---

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const two = (number) => String(number).padStart(2, "0");

function largest(seconds) {
  const [size, name] = UNITS.find(([unit]) => seconds >= unit) || UNITS[3];
  return `${Math.floor(seconds / size)} ${name}`;
}

function spelled(seconds) {
  const first = Math.max(0, UNITS.findIndex(([unit]) => seconds >= unit));
  const parts = [];
  for (const [size, name] of seconds ? UNITS.slice(first, first + 2) : [[1, "s"]]) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count || !parts.length) parts.push(`${count} ${name}`);
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
    if (Math.abs(whole) < 2) return "now";
    return whole > 0 ? `${largest(whole)} ago` : `in ${largest(-whole)}`;
  },
  due: (seconds) => CLOCKS.ago(Math.min(seconds, 0)),
  open: (seconds) => spelled(Math.max(0, Math.floor(seconds < 60 ? seconds : seconds - (seconds % 60)))),
  for: (seconds) => spelled(Math.max(0, Math.floor(seconds))),
};

function tick() {
  for (const time of document.querySelectorAll("time[data-tick]:not([data-tick=now])")) {
    const text = CLOCKS[time.dataset.tick]((Date.now() - ahead - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

// --- regions ---

/** Make `old` like `fresh` with as few changes as possible; elements with an id are recognised wherever they went. */
function update(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) return old.data === fresh.data || (old.data = fresh.data);
  if (old.nodeType !== Node.ELEMENT_NODE || old.isEqualNode(fresh)) return;
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
    else child.remove();
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
    gone.remove();
  }
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const focused = document.activeElement;
  for (const region of document.querySelectorAll("[data-live]")) {
    const twin = fresh.getElementById(region.id);
    if (twin) update(region, twin);
  }
  if (focused !== document.activeElement) document.getElementById("content").focus({ preventScroll: true });
  tick();
}

// --- asking ---

function say(word) {
  if (sign.dataset.now === word) return;
  sign.dataset.now = word;
  sign.textContent = sign.dataset[word];
}

async function ask() {
  const options = { cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(10000) };
  const answer = await fetch(location.href, { ...options, headers: etag ? { "If-None-Match": etag } : {} });
  if (answer.type === "opaqueredirect") return "out"; // to the sign-in
  if (answer.status === 304) return "on";
  if (answer.status !== 200) return "off";
  show(await answer.text());
  etag = answer.headers.get("ETag");
  return "on";
}

async function look() {
  const word = await ask().catch(() => "off");
  say(word);
  pause = word === "on" ? EVERY : Math.min(pause * 2, SLOWEST);
  if (word !== "out") wait();
}

function wait() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, pause);
}

if (sign) {
  ahead = Date.now() - Date.parse(sign.querySelector("time").dateTime);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    pause = EVERY;
    if (!document.hidden) look();
  });
  say("on");
  setInterval(tick, 1000);
  wait();
}
