// Results as cards. Words from outside reach the page as text nodes only.

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// A name or caption: text that keeps its direction to itself, whole in the tooltip.
function outside(className, text) {
  const made = element("span", `outside ${className}`, text);
  made.dir = "auto";
  made.title = text;
  return made;
}

export function card(row, place, identity) {
  const button = element("button", "card");
  button.type = "button";
  button.tabIndex = -1;
  button.dataset.number = row.number;
  const frame = element("span", "frame");
  const image = element("img");
  image.alt = "";
  image.loading = "lazy";
  image.decoding = "async";
  image.addEventListener("error", () => frame.replaceChildren("This picture cannot be read"));
  image.src = `/pictures/${Number(row.number)}?of=${encodeURIComponent(identity)}`;
  frame.append(image);
  const about = element("span", "about");
  if (row.score !== null) {
    const line = element("span", "line");
    const score = element("span", "", row.score.toFixed(4));
    score.title = "cosine";
    line.append(element("span", "rank", String(place)), score);
    about.append(line);
  }
  if (row.label) about.append(outside("label", row.label));
  if (row.caption && row.caption !== row.label) about.append(outside("caption", row.caption));
  // The end of a path tells pictures apart; the whole stands in the tooltip.
  const name = outside("name", row.name.split("/").at(-1) || row.name);
  name.title = row.name;
  about.append(name);
  button.append(frame, about);
  button.setAttribute("aria-label", spoken(row, place));
  return button;
}

function spoken(row, place) {
  const score = row.score === null ? "" : `, score ${row.score.toFixed(3)}`;
  return `${place}: ${row.label || row.name}${score}. More like this`;
}

export function grid(rows, identity, firstPlace = 1) {
  const list = element("ol", "grid");
  rows.forEach((row, index) => {
    const item = element("li");
    item.append(card(row, firstPlace + index, identity));
    list.append(item);
  });
  return list;
}

export function emptyGrid(count) {
  const list = element("ol", "grid");
  list.setAttribute("aria-hidden", "true");
  for (let index = 0; index < count; index += 1) {
    const item = element("li");
    const blank = element("span", "card empty");
    blank.append(element("span", "frame"), element("span", "about"));
    item.append(blank);
    list.append(item);
  }
  return list;
}

// The card that an arrow key leads to, by where cards are seen; null beyond the edge.
export function neighbour(cards, current, key) {
  const index = cards.indexOf(current);
  if (key === "ArrowLeft") return cards[index - 1] ?? null;
  if (key === "ArrowRight") return cards[index + 1] ?? null;
  if (key === "Home") return cards[0];
  if (key === "End") return cards.at(-1);
  const here = current.getBoundingClientRect();
  const down = key === "ArrowDown";
  const boxes = cards.map((other) => [other, other.getBoundingClientRect()]);
  const beyond = boxes.filter(([, box]) => (down ? box.top >= here.bottom : box.bottom <= here.top));
  if (!beyond.length) return null;
  const tops = beyond.map(([, box]) => box.top);
  const row = down ? Math.min(...tops) : Math.max(...tops);
  const away = (box) => Math.abs(box.left - here.left);
  return beyond.filter(([, box]) => Math.abs(box.top - row) < 2).sort(([, a], [, b]) => away(a) - away(b))[0][0];
}
