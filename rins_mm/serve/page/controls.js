// The form above the pictures: what it asks for, and how it shows what is asked.

import { FIRST_COUNT, partsOf, RELATIONS, whereOf } from "/address.js";
import { element } from "/cards.js";
import { ms, shortDepth } from "/telling.js";

const MOST_NAMED = 7;

const by = (id) => document.getElementById(id);
let about = { depths: [], fields: [] };
let measured = {}; // depth -> milliseconds of encoding

export function setUp(what) {
  about = what;
  measured = about.depths_ms;
  by("depth").max = Math.max(0, about.depths.length - 1);
  by("depth_box").hidden = !about.depths.length;
  for (const id of ["words", "minus", "submit", "choose"]) by(id).disabled = !about.depths.length;
  if (!about.depths.length) by("words").placeholder = "words need a model: start with --model";
  by("filter").hidden = !about.fields.length;
  by("field").replaceChildren(element("option", "", "anything"), ...about.fields.map((one) => Object.assign(element("option", "", one.name), { value: one.name })));
  by("field").firstChild.value = "";
}

export function fromForm(count = FIRST_COUNT) {
  const where = whereOf(by("field").value, by("relation").value, by("value").value.trim());
  const depth = about.depths[Number(by("depth").value)]?.signature ?? "";
  const usual = about.depths.find((one) => one.usual)?.signature;
  return { depth: depth === usual ? "" : depth, where, count };
}

export function offerRelations(chosen) {
  const field = about.fields.find((one) => one.name === by("field").value);
  by("relation").replaceChildren(...RELATIONS[field?.is_number ? "number" : "text"].map(([sign, words]) => Object.assign(element("option", "", words), { value: sign })));
  if (chosen) by("relation").value = chosen;
  by("value").inputMode = field?.is_number ? "numeric" : "text";
  for (const id of ["relation", "value"]) by(id).disabled = !field || by("field").disabled;
}

export function toForm(state) {
  by("words").value = state.words ?? "";
  by("minus").value = state.minus ?? "";
  by("field").disabled = state.kind === "duplicates";
  const [field, relation, value] = partsOf(state.where);
  by("field").value = about.fields.some((one) => one.name === field) ? field : "";
  offerRelations(relation);
  by("value").value = value;
  const place = about.depths.findIndex((one) => (state.depth ? one.signature === state.depth : one.usual));
  if (place >= 0) by("depth").value = place;
  by("depth").disabled = state.kind !== "words" && state.kind !== "browse";
  showDepths();
}

// A few stops have room for their names and milliseconds; of many, the ends and the chosen one do.
export function showDepths(milliseconds = measured) {
  measured = milliseconds;
  const place = Number(by("depth").value);
  const chosen = about.depths[place];
  by("depth_name").textContent = chosen ? `${shortDepth(chosen.signature)}${chosen.usual ? " (default)" : ""}` : "";
  by("depth").setAttribute("aria-valuetext", chosen?.signature ?? "");
  const last = about.depths.length - 1;
  const named = about.depths.filter((one, index) => last < MOST_NAMED || index === 0 || index === last);
  by("depths").replaceChildren(...named.map((one) => {
    const item = element("li", one === chosen ? "chosen" : "");
    const time = measured[one.signature];
    item.append(element("span", "", shortDepth(one.signature)), element("span", "", time === undefined ? "" : ms(time)));
    return item;
  }));
}
