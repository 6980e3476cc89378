// What the page says about a question and its answer. All of it is shown as text.

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
  return `${ms(content.encode_ms)} to encode${state.kind === "words" ? ` at ${content.depth}` : ""} · ${searched}`;
}

export function ms(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
