// What the page says about a question and its answer. All of it is shown as text.

import { partsOf, RELATIONS } from "/address.js";

export function titleOf(state, picture) {
  return {
    browse: "A look through the index",
    words: `“${state.words}”${state.minus ? ` minus “${state.minus}”` : ""}`,
    like: "More like this",
    picture: `More like ${picture ?? "your picture"}`,
    duplicates: "Near duplicates",
  }[state.kind];
}

export function timingOf(state, content, numPictures) {
  if (state.kind === "browse") return content.results.length ? "Words find pictures; a picture finds others like it." : "";
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
