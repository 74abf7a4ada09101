// The words that mattered: marked in the text by how much they speak for a label or against it, and listed.

import { element, probability } from "/static/dom.js";
import { askPatiently, classifierPath } from "/static/server.js";

const LISTED = 6;
// Weights below this share of the strongest are not marked: everything matters a little.
const FAINT = 0.08;
// Stands between the texts of a pair.
const PAIR = "\ufdd0";

const signed = (weight) => `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;

function strength(weight, strongest) {
  const share = Math.abs(weight) / strongest;
  return share < FAINT ? 0 : share < 0.3 ? 1 : share < 0.65 ? 2 : 3;
}

function marked(word, strongest) {
  const level = strength(word.weight, strongest);
  if (level === 0 || strongest === 0) return word.text;
  const side = word.weight > 0 ? "for" : "against";
  return element("mark", { class: `${side} level-${level}`, title: `${signed(word.weight)} ${side}` }, word.text);
}

/** The text with its words marked. Positions count Unicode characters; where they do not fit, the words alone are shown. */
function markedText(text, words) {
  const strongest = Math.max(0, ...words.map((word) => Math.abs(word.weight)));
  const letters = Array.from(text);
  const between = (from, to) => letters.slice(from, to).join("").replaceAll(PAIR, "\n\n");
  const shown = [];
  let at = 0;
  for (const word of words) {
    if (word.start < at || letters.slice(word.start, word.end).join("") !== word.text) {
      return words.flatMap((one) => [marked(one, strongest), " "]);
    }
    shown.push(between(at, word.start), marked(word, strongest));
    at = word.end;
  }
  return [...shown, between(at, letters.length)];
}

function wordList(heading, side, words) {
  return element("div", {},
    element("h4", {}, element("span", { class: `key ${side}`, "aria-hidden": "true" }), heading),
    words.length === 0 ? element("p", { class: "quiet" }, "no word") : element("ol", { class: "words" },
      words.map((word) => element("li", {}, element("span", {}, word.text), element("span", { class: "number" }, signed(word.weight))))));
}

function explained(found, given) {
  const ranked = [...found.words].sort((a, b) => b.weight - a.weight);
  const text = found.text ?? [given].flat().join(PAIR);
  return [
    element("p", { class: "marked", dir: "auto" }, markedText(text, found.words)),
    element("div", { class: "word-lists" },
      wordList(`For ${found.label}`, "for", ranked.filter((word) => word.weight > 0).slice(0, LISTED)),
      wordList(`Against ${found.label}`, "against", ranked.filter((word) => word.weight < 0).reverse().slice(0, LISTED))),
    element("p", { class: "quiet" }, `${found.label}: ${probability(found.probability)}. A weight is how much its log odds fall, in nats, when the word is left out.`),
  ];
}

let made = 0;

/** The region that explains a prediction of `item` for `text`, beginning with `label`; asks the server at once. */
export function explanationOf(item, text, label) {
  const id = `explained-label-${(made += 1)}`;
  const body = element("div", { "aria-live": "polite" });
  const choice = element("select", { id, onchange: () => show(choice.value) },
    item.labels.map((name) => element("option", { value: name, selected: name === label }, name)));
  let running = null;

  async function show(wanted) {
    running?.abort();
    const own = (running = new AbortController());
    body.replaceChildren(element("p", { class: "quiet" }, "Leaving out each word in turn…"));
    try {
      const found = await askPatiently(classifierPath(item.name, "/explain"), { body: { text, label: wanted }, signal: own.signal });
      if (running === own) body.replaceChildren(...explained(found, text));
    } catch (error) {
      if (error.name !== "AbortError" && running === own) body.replaceChildren(element("p", { class: "message bad" }, error.message));
    }
  }

  show(label);
  return element("section", { class: "explanation", "aria-label": "Words that mattered" },
    element("div", { class: "row" }, element("label", { for: id }, "Words for and against"), choice), body);
}
