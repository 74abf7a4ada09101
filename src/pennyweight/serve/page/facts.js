// What is known of a classifier: its labels, how well it did on texts it had not seen, what was trained.

import { count, element, percent, several } from "/static/dom.js";
import { isMulti } from "/static/picker.js";

const LABELS_SHOWN = 12;

const chips = (labels) => element("ul", { class: "chips" }, labels.map((label) => element("li", {}, label)));

function labelList(labels) {
  if (labels.length <= LABELS_SHOWN + 2) return chips(labels);
  return element("div", {}, chips(labels.slice(0, LABELS_SHOWN)),
    element("details", {}, element("summary", {}, `${count(labels.length - LABELS_SHOWN)} more labels`), chips(labels.slice(LABELS_SHOWN))));
}

/** The main figure: `{name, value, interval, rows}`; null where nothing was measured. */
function quality(metrics, multi) {
  const rows = metrics?.test ? "test" : metrics?.validation ? "validation" : null;
  if (rows === null) return null;
  const on = metrics[rows];
  const interval = multi ? on.intervals?.micro_f1 : on.accuracy_interval;
  const value = multi ? on.micro_f1 : on.accuracy;
  return value === undefined ? null : { name: multi ? "Micro F1" : "Accuracy", value, interval, rows: several(on.n ?? 0, `${rows} text`) };
}

function fact(name, value, ...below) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value, below.length ? element("small", {}, ...below) : null));
}

/** Shows the facts in `place`: first those of the list, then `details` too, where the server has answered with them. */
export function showFacts(place, item, details = null) {
  if (item === null) {
    place.replaceChildren();
    return;
  }
  const known = { ...item, ...details };
  const multi = isMulti(known);
  const measured = quality(details?.metrics, multi);
  const facts = [fact("Task", `${multi ? "Any number of labels" : "One label"} per ${known.pair ? "pair of texts" : "text"}`)];
  if (measured) {
    const ends = measured.interval ? `95% interval ${(100 * measured.interval[0]).toFixed(1)}–${(100 * measured.interval[1]).toFixed(1)}, ` : "";
    facts.push(fact(measured.name, percent(measured.value), `${ends}${measured.rows}`));
  } else if (details !== null) facts.push(fact(multi ? "Micro F1" : "Accuracy", "not measured"));
  if (known.parameters !== undefined && known.parameters !== null) facts.push(fact("Trained parameters", count(known.parameters)));
  if (known.max_length) facts.push(fact("Longest text", several(known.max_length, "token"), "longer texts are cut"));
  // Folded on a phone, where it would stand between the classifier and the texts.
  const open = place.querySelector(".about")?.open || matchMedia("(min-width: 56rem)").matches;
  place.replaceChildren(
    element("h2", { class: "unseen" }, `About ${known.name}`),
    labelList(known.labels ?? []),
    element("details", { class: "about", open }, element("summary", {}, "About this classifier"),
      element("dl", { class: "facts" }, facts),
      known.version ? element("p", { class: "quiet" }, "Version ", element("code", {}, known.version)) : null,
      details?.card ? element("details", {}, element("summary", {}, "Model card"), element("pre", { class: "card-text", tabindex: "0" }, details.card)) : null),
  );
}
