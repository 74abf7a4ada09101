// Results: a card for each text, what they add up to, and the files to take home.

import { writeCsv } from "/static/csv.js";
import { count, element, probability, several } from "/static/dom.js";
import { explanationOf } from "/static/explanation.js";
import { isMulti } from "/static/picker.js";

const TOP_LABELS = 3;
const A_PAGE = 25;
const LONG_TEXT = 600;
const DECIMALS = 6;

/** The label that a prediction keeps at a threshold, null without one; of a multi-label classifier its labels. */
export function kept(prediction, threshold) {
  if (prediction.labels) return prediction.labels;
  return prediction.probability >= threshold ? prediction.label : null;
}

function bar(name, share, given) {
  const fill = element("span", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  return element("li", { class: given ? "given" : "" }, element("span", { class: "name" }, name),
    element("span", { class: "track", "aria-hidden": "true" }, fill), element("span", { class: "number" }, probability(share)));
}

/** Bars of the likeliest labels, the rest folded. */
function bars(item, prediction) {
  const given = new Set(prediction.labels ?? [prediction.label]);
  const ranked = item.labels.map((name) => [name, prediction.probabilities[name] ?? 0]).sort((a, b) => b[1] - a[1]);
  const top = Math.max(TOP_LABELS, Math.min(8, prediction.labels?.length ?? 0));
  const shown = ranked.length === top + 1 ? ranked.length : top;
  const list = (some) => element("ul", { class: "bars" }, some.map(([name, share]) => bar(name, share, given.has(name))));
  const rest = ranked.slice(shown);
  if (!rest.length) return [list(ranked)];
  const folded = element("details", {}, element("summary", {}, `${count(rest.length)} more labels`));
  folded.addEventListener("toggle", () => { if (folded.open && folded.children.length === 1) folded.append(list(rest)); });
  return [list(ranked.slice(0, shown)), folded];
}

/** One classifier's answer for one text: `{node, update(threshold)}`. */
function answer(item, prediction, text, named) {
  const heading = named ? element("p", { class: "of quiet" }, item.name) : null;
  if (!answered(prediction)) {
    const words = prediction?.problem ?? "Not classified: the run was stopped.";
    return { node: element("div", { class: "answer" }, heading, element("p", { class: "message bad" }, words)), update() {} };
  }
  const verdict = element("p", { class: "verdict" });
  const place = element("div", {});
  const why = element("button", { type: "button", class: "plain", "aria-expanded": "false", onclick: () => {
    const open = place.childElementCount === 0;
    place.replaceChildren(...(open ? [explanationOf(item, text, prediction.label ?? strongest(prediction))] : []));
    why.setAttribute("aria-expanded", String(open));
  } }, "Which words?");
  const update = (threshold) => {
    const label = kept(prediction, threshold);
    const unsure = label === null || (Array.isArray(label) && label.length === 0);
    verdict.classList.toggle("unsure", unsure);
    node.classList.toggle("abstained", unsure && !Array.isArray(label));
    if (Array.isArray(label)) verdict.replaceChildren(...(unsure ? ["No label"] : likeliestFirst(label, prediction).map((name) => element("span", { class: "tag" }, name))));
    else if (unsure) verdict.replaceChildren("No label", element("small", {}, `${prediction.label} at ${probability(prediction.probability)}`));
    else verdict.replaceChildren(element("span", { class: "tag" }, label));
  };
  const node = element("div", { class: "answer" }, heading, element("div", { class: "answer-head" }, verdict, why), ...bars(item, prediction), place);
  return { node, update };
}

const likeliestFirst = (labels, { probabilities }) => [...labels].sort((a, b) => probabilities[b] - probabilities[a]);
const strongest = (prediction) => likeliestFirst(Object.keys(prediction.probabilities), prediction)[0] ?? null;

function shownText(text) {
  if (Array.isArray(text)) return element("div", { class: "pair" }, text.map(oneText));
  return oneText(text);
}

/** A text; the end of a long one is folded. */
function oneText(text) {
  const shown = element("p", { class: "text", dir: "auto" }, text === "" ? element("span", { class: "quiet" }, "(empty)") : text);
  if (text.length <= LONG_TEXT + 100) return shown;
  const whole = element("button", { type: "button", class: "plain", onclick: () => {
    shown.textContent = text;
    shown.tabIndex = -1;
    shown.focus();
  } }, `Show all ${count(text.length)} characters`);
  shown.replaceChildren(`${text.slice(0, LONG_TEXT)}… `, whole);
  return shown;
}

const answered = (one) => one !== undefined && !one.problem;

/** Whether two classifiers give a text different labels. */
function differs({ predictions: [first, second] }, text, threshold) {
  if (second === undefined || !answered(first[text]) || !answered(second[text])) return false;
  return String(kept(first[text], threshold)) !== String(kept(second[text], threshold));
}

/** What there is to look at: `[name, title, test]`, of which the first is all. */
function filters(run, threshold) {
  const [first] = run.predictions, [item] = run.items;
  const found = [["all", "All texts", () => true]];
  const is = (test) => (place) => answered(first[place]) && test(place);
  if (run.items.length > 1) found.push(["differ", "The classifiers differ", (place) => differs(run, place, threshold)]);
  if (first.some((one) => one?.problem)) found.push(["problems", "Refused", (place) => Boolean(first[place]?.problem)]);
  const without = (one) => { const label = kept(one, threshold); return label === null || label.length === 0; };
  if (threshold > 0 || isMulti(item)) found.push(["none", "No label", is((place) => without(first[place]))]);
  item.labels.forEach((label, which) => found.push([`label-${which}`, label, is((place) => {
    const has = kept(first[place], threshold);
    return has === label || (Array.isArray(has) && has.includes(label));
  })]));
  return found;
}

/** How many texts got each label: bars of one classifier. */
function tally(run, which, threshold) {
  const item = run.items[which], sums = new Map(item.labels.map((label) => [label, 0]));
  let without = 0, all = 0;
  for (const one of run.predictions[which]) {
    if (!answered(one)) continue;
    all += 1;
    const labels = [kept(one, threshold)].flat().filter((label) => label !== null);
    if (labels.length === 0) without += 1;
    for (const label of labels) sums.set(label, (sums.get(label) ?? 0) + 1);
  }
  const ranked = [...sums].sort((a, b) => b[1] - a[1]);
  const row = ([name, sum]) => {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${(100 * sum) / Math.max(1, all)}%`;
    return element("li", {}, element("span", { class: "name" }, name), element("span", { class: "track", "aria-hidden": "true" }, fill),
      element("span", { class: "number" }, count(sum)));
  };
  const shown = ranked.slice(0, 6).map(row);
  if (ranked.length > 6) shown.push(element("li", { class: "quiet" }, `and ${count(ranked.length - 6)} more labels`));
  if (without) shown.push(element("li", { class: "unsure" }, ...row(["No label", without]).childNodes));
  return element("div", {}, run.items.length > 1 ? element("h3", {}, item.name) : null, element("ul", { class: "bars tally" }, shown));
}

const rounded = (share) => (share === undefined ? "" : Number(share.toFixed(DECIMALS)));

/** Columns of a classifier's predictions, named as `pennyweight predict` names them, after the classifier where there are two. */
function predictionColumns(item, prefix) {
  const multi = isMulti(item);
  const names = multi ? ["labels"] : ["label", "probability"];
  return {
    names: [...names, ...item.labels.map((label) => `p_${label}`)].map((name) => (prefix ? `${item.name}_${name}` : name)),
    cells(one, threshold) {
      if (!answered(one)) return [...names, ...item.labels].map(() => "");
      const shares = item.labels.map((label) => rounded(one.probabilities[label]));
      return multi ? [one.labels.join("|"), ...shares] : [kept(one, threshold) ?? "", rounded(one.probability), ...shares];
    },
  };
}

function csvFile(run, threshold) {
  const columns = run.items.map((item) => predictionColumns(item, run.items.length > 1));
  const problems = run.predictions[0].some((one) => one?.problem);
  const header = [...run.table.names, ...columns.flatMap((column) => column.names), ...(problems ? ["problem"] : [])];
  const rows = run.table.rows.map((row, place) => [
    ...run.table.names.map((_, column) => row[column] ?? ""),
    ...columns.flatMap((column, which) => column.cells(run.predictions[which][place], threshold)),
    ...(problems ? [run.predictions[0][place]?.problem ?? ""] : []),
  ]);
  return writeCsv(header, rows, run.table.texts);
}

function jsonFile(run, threshold) {
  const results = run.texts.map((text, place) => ({
    text,
    predictions: run.items.map((item, which) => {
      const one = run.predictions[which][place];
      if (!answered(one)) return { classifier: item.name, problem: one?.problem ?? "not classified" };
      return { classifier: item.name, ...one, ...(one.labels ? {} : { label: kept(one, threshold) }) };
    }),
  }));
  const classifiers = run.items.map((item, which) => ({ name: item.name, version: run.versions[which] ?? item.version ?? null }));
  return `${JSON.stringify({ classifiers, abstain_below: threshold || null, results }, null, 2)}\n`;
}

function download(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/**
 * Shows a run in `place`.
 *
 * `run`: `{items, texts, predictions: [classifier][text], versions, table: {names, rows, texts}, title, seconds}`.
 * Gives `{setThreshold(value)}`, which applies to what is shown without asking the server again.
 */
export function showResults(place, run, startThreshold) {
  let threshold = startThreshold, filter = "all", page = 0, answers = [];
  const many = run.texts.length > 1;
  const line = element("p", { class: "quiet", id: "summary" });
  const sums = element("div", { class: "tallies" });
  const choice = element("select", { id: "filter", onchange: () => { filter = choice.value; page = 0; cards(); } });
  const list = element("ol", { class: "cards" });
  const pages = element("nav", { class: "pages", "aria-label": "Pages of results" });
  const files = element("div", { class: "row files" },
    element("button", { type: "button", onclick: () => download(`${run.title}.csv`, csvFile(run, threshold), "text/csv") }, "Download CSV"),
    element("button", { type: "button", onclick: () => download(`${run.title}.json`, jsonFile(run, threshold), "application/json") }, "Download JSON"));

  function cards() {
    const test = (filters(run, threshold).find(([name]) => name === filter) ?? filters(run, threshold)[0])[2];
    const places = run.texts.map((_, text) => text).filter(test);
    const from = page * A_PAGE;
    answers = [];
    list.replaceChildren(...places.slice(from, from + A_PAGE).map((text) => {
      const own = run.items.map((item, which) => answer(item, run.predictions[which][text], run.texts[text], run.items.length > 1));
      const differ = element("span", { class: "differ", hidden: true }, "They differ");
      answers.push(...own, { update: () => { differ.hidden = !differs(run, text, threshold); } });
      return element("li", { class: run.items.length > 1 ? "card two" : "card" },
        element("div", { class: "given-text" }, many ? element("span", { class: "quiet place" }, count(text + 1)) : null, shownText(run.texts[text]), differ),
        element("div", { class: "answers" }, own.map((one) => one.node)));
    }));
    if (places.length === 0) list.append(element("li", { class: "quiet" }, "No such text."));
    for (const one of answers) one.update(threshold);
    turning(places.length, from);
  }

  function turning(all, from) {
    pages.hidden = all <= A_PAGE;
    const turn = (name, to, possible) => element("button", { type: "button", disabled: !possible, onclick: () => {
      page = to;
      cards();
      place.scrollIntoView({ block: "start" });
      place.focus({ preventScroll: true });
    } }, name);
    pages.replaceChildren(turn("Previous", page - 1, page > 0),
      element("span", { class: "quiet" }, `${count(from + 1)} to ${count(Math.min(all, from + A_PAGE))} of ${count(all)}`),
      turn("Next", page + 1, from + A_PAGE < all));
  }

  function counted() {
    const first = run.predictions[0];
    const done = first.filter(answered);
    const parts = [`${several(done.length, "text")} classified${run.seconds === null ? "" : ` in ${run.seconds.toFixed(2)} s`}`];
    const refused = first.filter((one) => one?.problem).length;
    if (refused) parts.push(`${count(refused)} refused`);
    if (done.length + refused < run.texts.length) parts.push(`${count(run.texts.length - done.length - refused)} not reached`);
    run.items.forEach((item, which) => {
      if (isMulti(item) || threshold === 0) return;
      const sure = run.predictions[which].filter((one) => answered(one) && kept(one, threshold) !== null).length;
      parts.push(`${run.items.length > 1 ? `${item.name}: ` : ""}${count(sure)} with a label, ${count(done.length - sure)} without`);
    });
    if (run.items.length > 1) {
      const agree = first.filter((one, text) => answered(one) && !differs(run, text, threshold)).length;
      parts.push(`the classifiers agree on ${count(agree)}`);
    }
    line.textContent = parts.join(" · ");
    if (!many) return;
    sums.replaceChildren(...run.items.map((_, which) => tally(run, which, threshold)));
    const options = filters(run, threshold);
    if (!options.some(([name]) => name === filter)) filter = "all";
    choice.replaceChildren(...options.map(([name, title, test]) =>
      element("option", { value: name, selected: name === filter }, `${title} (${count(run.texts.reduce((sum, _, text) => sum + test(text), 0))})`)));
  }

  counted();
  cards();
  place.replaceChildren(
    element("div", { class: "results-head" }, element("div", {}, element("h2", {}, "Results"), line), files),
    ...(many ? [sums, element("div", { class: "row" }, element("label", { for: "filter" }, "Show"), choice)] : []), list, pages);
  place.hidden = false;

  return {
    get summary() { return line.textContent; },
    setThreshold(value) {
      threshold = value;
      counted();
      if (filter === "all") for (const one of answers) one.update(threshold);
      else cards();
    },
  };
}
