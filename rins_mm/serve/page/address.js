// What is asked, as the address of the page and back.

export const FIRST_COUNT = 24;
export const MOST = 480;

// How a condition compares, as the server writes it and as people say it.
export const RELATIONS = {
  text: [["~", "contains"], ["=", "is"], ["!=", "is not"]],
  number: [[">=", "at least"], ["<=", "at most"], ["=", "is"]],
};

// One condition. A text stands in quotes: those that people write themselves then stay.
export function whereOf(field, relation, value) {
  if (!field || !value) return "";
  return /^-?[0-9]+$/.test(value) ? `${field}${relation}${value}` : `${field}${relation}"${value}"`;
}

export function partsOf(where) {
  const found = /^([a-z0-9_]+)(>=|<=|!=|=|~)(.*)$/s.exec(where ?? "");
  if (!found) return ["", "", ""];
  return [found[1], found[2], found[3].replace(/^"(.*)"$/s, "$1")];
}

export function readAddress() {
  const given = new URLSearchParams(location.search);
  const common = {
    depth: given.get("depth") ?? "", where: given.get("where") ?? "",
    count: Math.min(MOST, Number(given.get("count")) || FIRST_COUNT),
  };
  if (given.get("words")) return { kind: "words", words: given.get("words"), minus: given.get("minus") ?? "", ...common };
  if (given.has("like")) return { kind: "like", number: Number(given.get("like")), ...common };
  if (given.has("picture")) return { kind: "picture", picture: given.get("picture"), ...common };
  if (given.has("duplicates")) return { kind: "duplicates", threshold: Number(given.get("duplicates")), ...common };
  return { kind: "browse", ...common };
}

export function addressOf(state) {
  const names = { words: "words", minus: "minus", number: "like", picture: "picture", threshold: "duplicates", depth: "depth", where: "where" };
  const given = new URLSearchParams();
  for (const [key, name] of Object.entries(names)) {
    if (state[key] !== undefined && state[key] !== "") given.set(name, state[key]);
  }
  if (state.count > FIRST_COUNT) given.set("count", state.count);
  return `/?${given}`;
}
