// The page: what is asked stands in its address, what was answered in a small memory, so that going
// back costs nothing and a reload asks the same again.

import { addressOf, MOST, readAddress } from "/address.js";
import { element, emptyGrid, grid, neighbour } from "/cards.js";
import { fromForm, offerRelations, setUp, showDepths, toForm } from "/controls.js";
import { ask, inBase64 } from "/server.js";
import { printable, timingOf, titleOf, whereInWords } from "/telling.js";

const LOADING_AFTER_MS = 150;
const SLIDE_REST_MS = 120;
const REMEMBERED = 40;

const by = (id) => document.getElementById(id);
const answers = new Map(); // address -> {content, focused}
const pictures = new Map(); // number of a dropped picture -> {name, data, address}
let about = null;
let asked = { kind: "browse" };
let running = null;
let resting = 0;

// ---- asking

function open(state, { replace = false, focus = "" } = {}) {
  remember();
  const place = history.state?.place ?? 0;
  const method = replace ? "replaceState" : "pushState";
  history[method]({ place: replace ? place : place + 1 }, "", addressOf(state));
  show(state, focus);
}

async function show(state, focus = "") {
  clearTimeout(resting);
  running?.abort();
  const mine = (running = new AbortController());
  asked = state;
  toForm(state);
  describe(state);
  by("back").hidden = !history.state?.place;
  const known = answers.get(addressOf(state));
  if (known) return present(state, known.content, focus || "again");
  const loading = setTimeout(() => {
    document.body.classList.add("busy");
    by("results").setAttribute("aria-busy", "true");
    if (!by("results").firstChild) by("results").replaceChildren(emptyGrid(12));
  }, LOADING_AFTER_MS);
  try {
    const content = await answerTo(state, mine.signal);
    if (mine.signal.aborted) return;
    answers.set(addressOf(state), { content, focused: null });
    if (answers.size > REMEMBERED) answers.delete(answers.keys().next().value);
    present(state, content, focus);
  } catch (error) {
    if (!mine.signal.aborted) fail(state, error);
  } finally {
    clearTimeout(loading);
    if (running === mine) {
      document.body.classList.remove("busy");
      by("results").removeAttribute("aria-busy");
    }
  }
}

function answerTo(state, signal) {
  if (state.kind === "duplicates") return ask("/api/duplicates", { threshold: state.threshold }, signal);
  const body = { top_k: state.count, where: state.where ? [state.where] : [] };
  if (state.kind === "words") Object.assign(body, { words: state.words, minus: state.minus, depth: state.depth });
  if (state.kind === "like") body.number = state.number;
  if (state.kind === "picture") {
    const picture = pictures.get(state.picture);
    if (!picture) return Promise.reject(new Error("The page has been loaded anew and has forgotten this picture; drop it again."));
    body.picture = picture.data;
  }
  return ask("/api/search", body, signal);
}

// ---- showing

function describe(state) {
  const image = by("asked");
  image.hidden = true;
  if (state.kind === "like") image.src = `/pictures/${state.number}?of=${encodeURIComponent(about.identity)}`;
  if (state.kind === "picture" && pictures.has(state.picture)) image.src = pictures.get(state.picture).address;
  image.hidden = !(state.kind === "like" || (state.kind === "picture" && pictures.has(state.picture)));
  const title = titleOf(state, pictures.get(state.picture)?.name);
  by("heading").replaceChildren(...title.map((part) => (Array.isArray(part) ? element("bdi", "", printable(part[0])) : part)));
  document.title = state.kind === "browse" ? "Picture search" : `${by("heading").textContent} · Picture search`;
  by("threshold_box").hidden = state.kind !== "duplicates";
  if (state.kind === "duplicates") {
    by("threshold").value = state.threshold;
    by("threshold_name").textContent = Number(state.threshold).toFixed(3);
  }
  by("timing").textContent = "";
  by("message").hidden = true;
  by("more").hidden = true;
}

function present(state, content, focus) {
  if (state.kind === "duplicates") presentGroups(content);
  else {
    by("results").replaceChildren(...(content.results.length ? [grid(content.results, about.identity)] : []));
    if (!content.results.length) nothing(state);
    by("more").hidden = content.results.length < state.count || state.count >= Math.min(MOST, about.num_pictures);
  }
  by("timing").textContent = timingOf(state, content, about.num_pictures, about.depths.length > 0);
  showDepths(content.depths_ms);
  const cards = allCards();
  const place = focus === "again" ? answers.get(addressOf(state))?.focused : Number(focus.split(":")[1] ?? 0);
  const target = cards[place ?? 0] ?? cards[0];
  if (target) target.tabIndex = 0;
  if (focus && target && (focus !== "again" || place !== null)) target.focus({ preventScroll: focus.startsWith("cards") && !place });
  if (focus === "cards:0") scrollTo({ top: 0 });
}

function presentGroups(content) {
  let place = 1;
  const parts = content.groups.map((rows, index) => {
    const part = element("section");
    const more = content.sizes[index] > rows.length ? `, ${rows.length} of them shown` : "";
    part.append(element("h3", "", `${content.sizes[index]} nearly the same${more}`), grid(rows, about.identity, place));
    place += rows.length;
    return part;
  });
  by("results").replaceChildren(...parts);
  if (!parts.length) say("No two pictures are this close.", "Lower the cosine to find looser pairs.");
}

function nothing(state) {
  if (!state.where) return say("The index holds no pictures.", "");
  say("No picture is like that.", `Only pictures whose ${whereInWords(state.where)} are searched.`, ["Search all pictures", () => {
    open({ ...asked, where: "" }, { replace: true });
  }]);
}

function say(first, second, action) {
  const panel = by("message");
  panel.className = "panel";
  panel.setAttribute("role", "status");
  panel.replaceChildren(element("p", "", first));
  if (second) panel.append(element("p", "soft", second));
  if (action) {
    const button = element("button", "", action[0]);
    button.type = "button";
    button.addEventListener("click", action[1]);
    panel.append(button);
  }
  panel.hidden = false;
}

function fail(state, error) {
  by("results").replaceChildren();
  say("That did not work.", error.message, ["Try again", () => (about ? show(state) : start())]);
  by("message").className = "panel error";
  by("message").setAttribute("role", "alert");
}

// ---- cards and keys

const allCards = () => [...by("results").querySelectorAll("button.card")];

function remember() {
  const place = allCards().indexOf(document.activeElement);
  const known = answers.get(addressOf(asked));
  if (known && place >= 0) known.focused = place;
}

function focusCard(target) {
  for (const other of allCards()) other.tabIndex = other === target ? 0 : -1;
  target.focus();
}

function searchWords({ replace = false } = {}) {
  const words = by("words").value.trim();
  if (words) open({ kind: "words", words, minus: by("minus").value.trim(), ...fromForm() }, { replace });
  else if (by("minus").value.trim()) say("There is nothing to take words away from.", "Write what to look for in the first field as well.");
  else open({ kind: "browse", ...fromForm() }, { replace });
}

function again() {
  // Words that were written and not yet sent are meant as well.
  if (asked.kind === "words" || asked.kind === "browse") searchWords({ replace: asked.kind === "words" });
  else open({ ...asked, ...fromForm(asked.count) }, { replace: true });
}

function moreLike(number) {
  open({ kind: "like", number, ...fromForm() }, { focus: "cards:0" });
}

async function searchPicture(file) {
  try {
    if (!file) return;
    if (file.size > about.max_picture_bytes) throw new Error(`The file has ${(file.size / 2 ** 20).toFixed(1)} MiB; at most ${Math.round(about.max_picture_bytes / 2 ** 20)} are read.`);
    const picture = String(pictures.size + 1);
    pictures.set(picture, { name: file.name, data: await inBase64(file), address: URL.createObjectURL(file) });
    open({ kind: "picture", picture, ...fromForm() }, { focus: "cards:0" });
  } catch (error) {
    fail(asked, error);
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.matches("input[type=search], select");
  if (event.key === "Escape") {
    event.preventDefault();
    if (typing && by("results").querySelector("button.card")) focusCard(allCards().find((one) => one.tabIndex === 0) ?? allCards()[0]);
    else if (history.state?.place) history.back();
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    by("words").focus();
    by("words").select();
  } else if (event.key === "ArrowDown" && (event.target.id === "words" || event.target.id === "minus") && allCards().length) {
    event.preventDefault();
    focusCard(allCards()[0]);
  } else if (/^(Arrow|Home$|End$)/.test(event.key) && event.target.matches("button.card")) {
    event.preventDefault();
    const target = neighbour(allCards(), event.target, event.key);
    if (target) focusCard(target);
    else if (event.key === "ArrowUp") by("words").focus();
  }
}

function listen() {
  by("form").addEventListener("submit", (event) => { event.preventDefault(); searchWords(); });
  by("depth").addEventListener("input", () => {
    showDepths();
    clearTimeout(resting);
    if (asked.kind === "words") resting = setTimeout(again, SLIDE_REST_MS);
  });
  by("field").addEventListener("change", () => {
    offerRelations();
    by("value").value = "";
    if (by("field").value) by("value").focus();
    else if (asked.where) again();
  });
  by("relation").addEventListener("change", () => { if (by("value").value.trim()) again(); });
  by("value").addEventListener("change", again);
  by("results").addEventListener("click", (event) => {
    const chosen = event.target.closest("button.card");
    if (chosen) { focusCard(chosen); moreLike(Number(chosen.dataset.number)); }
  });
  by("more").addEventListener("click", () => open({ ...asked, count: Math.min(MOST, asked.count * 2) }, { replace: true, focus: `cards:${asked.count}` }));
  by("back").addEventListener("click", () => history.back());
  by("duplicates").addEventListener("click", () => open({ kind: "duplicates", threshold: Number(by("threshold").value), ...fromForm() }));
  by("threshold").addEventListener("input", () => {
    by("threshold_name").textContent = Number(by("threshold").value).toFixed(3);
    clearTimeout(resting);
    resting = setTimeout(() => open({ ...asked, threshold: Number(by("threshold").value) }, { replace: true }), 3 * SLIDE_REST_MS);
  });
  by("choose").addEventListener("click", () => by("file").click());
  by("file").addEventListener("change", () => { searchPicture(by("file").files[0]); by("file").value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); by("drop").hidden = false; });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) by("drop").hidden = true; });
  addEventListener("drop", (event) => { event.preventDefault(); by("drop").hidden = true; searchPicture(event.dataTransfer.files[0]); });
  addEventListener("paste", (event) => { if (event.clipboardData.files.length) searchPicture(event.clipboardData.files[0]); });
  addEventListener("keydown", onKey);
  addEventListener("popstate", () => show(readAddress()));
}

async function start() {
  try {
    about = await ask("/api/about");
  } catch (error) {
    return fail(null, error);
  }
  by("facts").textContent = about.facts.join(" · ");
  by("facts").dir = "auto";
  setUp(about);
  history.replaceState({ place: history.state?.place ?? 0 }, "");
  show(readAddress());
}

listen();
start();
