// Building elements. Text is set as text, never as markup: nothing that a user or a classifier says can become code.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (`onclick: f` listens, true and false set or leave out) and children or texts. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Shows `text` in a paragraph that is announced, or hides it where there is none. */
export function say(paragraph, text) {
  paragraph.textContent = text || "";
  paragraph.hidden = !text;
}

const counts = new Intl.NumberFormat("en");
export const count = (value) => counts.format(value);
export const percent = (share) => `${(100 * share).toFixed(1)}%`;
/** A probability; the ends are never certain. */
export const probability = (share) => (share > 0.9995 ? "> 99.9%" : share < 0.0005 ? "< 0.1%" : percent(share));
/** `1 text`, `2,000 texts`. */
export const several = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
