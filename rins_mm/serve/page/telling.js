// What the page says about a question and its answer. All of it is shown as text.

import { partsOf, RELATIONS } from "/address.js";

// Parts of a title: plain text, and in arrays what somebody wrote, which keeps its direction to itself.
export function titleOf(state, picture) {
  const minus = state.minus ? [" minus “", [state.minus], "”"] : [];
  return {
    browse: ["A look through the index"],
    words: ["“", [state.words], "”", ...minus],
    like: ["More like this"],
    picture: ["More like ", picture ? [picture] : "your picture"],
    duplicates: ["Near duplicates"],
  }[state.kind];
}

// Without what would turn the direction of the words around it.
export function printable(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

export function timingOf(state, content, numPictures, hasModel) {
  if (state.kind === "browse") {
    if (!content.results.length) return "";
    return hasModel ? "Words find pictures; a picture finds others like it." : "Choose a picture to find others like it.";
  }
  const searched = `${ms(content.search_ms)} to search ${numPictures.toLocaleString("en")} pictures`;
  if (state.kind === "duplicates") return `${content.num_groups} groups${content.num_groups > content.groups.length ? `, the largest ${content.groups.length} shown` : ""} · ${ms(content.search_ms)}`;
  if (content.encode_ms === null) return `its stored vector · ${searched}`;
  return `${ms(content.encode_ms)} to encode${state.kind === "words" ? ` at ${shortDepth(content.depth)}` : ""} · ${searched}`;
}

export function ms(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function whereInWords(where) {
  const [field, relation, value] = partsOf(where);
  const words = [...RELATIONS.text, ...RELATIONS.number].find(([sign]) => sign === relation)?.[1] ?? relation;
  return `${field} ${words} “${value}”`;
}

// AAAAAAAAB as A^8B: a signature of many rounds is read by its counts.
export function shortDepth(signature) {
  return signature.replace(/([A-Z])\1{4,}/g, (run, letter) => `${letter}^${run.length}`);
}
