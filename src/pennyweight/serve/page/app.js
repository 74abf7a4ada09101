// The page at `/`: a classifier and texts in, predictions out.

import { makeCsvInput } from "/static/csv_input.js";
import { byId, count, say, several } from "/static/dom.js";
import { showFacts } from "/static/facts.js";
import { isMulti, makePicker } from "/static/picker.js";
import { showResults } from "/static/results.js";
import { ask, classifierPath, predictAll } from "/static/server.js";
import { withToken } from "/static/token_form.js";

let running = null; // the AbortController of the run that is under way
let shown = null; // what showResults gave
let listed = [];

const kind = () => document.querySelector("input[name=kind]:checked").value;
const threshold = () => Number(byId("threshold").value) / 100;

function problem(words) {
  say(byId("problem"), words);
  if (words) byId("problem").scrollIntoView({ block: "nearest" });
}

// --- the classifier ---

const first = makePicker(byId("picker"), { id: "classifier", label: "Classifier", empty: "Type a name or a label", onChoose: chooseFirst });
const second = makePicker(byId("second-picker"), {
  id: "second-classifier", label: "Compare with", empty: "No second classifier", clearable: true, onChoose: drawInput,
});

function chooseFirst(item) {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (item === null) parts.delete("classifier");
  else parts.set("classifier", item.name);
  history.replaceState(null, "", `${location.pathname}${location.search}${parts.size ? `#${parts}` : ""}`);
  second.setItems(item === null ? [] : listed.filter((other) => other.name !== item.name && Boolean(other.pair) === Boolean(item.pair)));
  showFacts(byId("facts"), item);
  drawInput();
  if (item !== null) addDetails(item);
}

async function addDetails(item) {
  try {
    const details = await ask(classifierPath(item.name));
    if (first.chosen?.name === item.name) showFacts(byId("facts"), item, details);
  } catch (error) {
    if (first.chosen?.name === item.name && !refused(error)) problem(error.message);
  }
}

// --- the input ---

const csv = makeCsvInput({ onFile: () => { problem(""); drawButton(); }, onProblem: (words) => { problem(words); drawButton(); } });

const lines = () => byId("texts").value.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");

/** The texts to classify and the table they came from; null where there are none. */
function given() {
  const pair = Boolean(first.chosen?.pair);
  if (kind() === "csv") {
    const table = csv.table();
    if (table === null) return null;
    return { texts: table.rows.map((row) => (pair ? table.texts.map((place) => row[place] ?? "") : row[table.texts[0]] ?? "")), table, title: table.title };
  }
  if (pair) {
    const texts = [byId("texts").value, byId("second-text").value];
    if (texts.some((text) => text.trim() === "")) return null;
    return { texts: [texts], table: { names: ["text_a", "text_b"], rows: [texts], texts: [0, 1] }, title: "texts" };
  }
  const texts = kind() === "lines" ? lines() : [byId("texts").value].filter((text) => text.trim() !== "");
  return texts.length ? { texts, table: { names: ["text"], rows: texts.map((text) => [text]), texts: [0] }, title: "texts" } : null;
}

function drawInput() {
  const pair = Boolean(first.chosen?.pair);
  const several = document.querySelector("input[value=lines]");
  several.closest("label").hidden = pair;
  document.querySelector("input[value=text] + span").textContent = pair ? "One pair" : "One text";
  if (pair && several.checked) document.querySelector("input[value=text]").checked = true;
  byId("texts-input").hidden = kind() === "csv";
  byId("csv-input").hidden = kind() !== "csv";
  byId("second-text-input").hidden = !pair;
  byId("texts-label").textContent = pair ? "First text" : kind() === "lines" ? "Texts" : "Text";
  byId("texts").rows = pair ? 4 : 7;
  byId("texts").placeholder = pair ? "" : kind() === "lines" ? "Type or paste texts, one per line" : "Type or paste a text";
  csv.setPair(pair);
  const chosen = [first.chosen, second.chosen].filter(Boolean);
  const multi = chosen.length > 0 && chosen.every(isMulti);
  byId("threshold").disabled = multi;
  byId("threshold-hint").textContent = multi ? "A multi-label classifier has a separate threshold for each label."
    : "A text whose most likely label is less probable than this gets no label.";
  drawButton();
}

function drawButton() {
  const found = kind() === "csv" || kind() === "lines" ? given() : null;
  byId("texts-count").textContent = kind() === "lines" && found ? several(found.texts.length, "text") : "";
  byId("predict").textContent = found && found.texts.length > 1 ? `Predict ${several(found.texts.length, "text")}` : "Predict";
}

// --- the run ---

function missing(found) {
  if (first.chosen === null) return ["Choose a classifier first.", "classifier"];
  if (found !== null) return null;
  if (kind() === "csv") return ["Choose a CSV file first.", "file"];
  if (first.chosen.pair) return ["Both texts are needed.", byId("texts").value.trim() === "" ? "texts" : "second-text"];
  return ["Type or paste a text first.", "texts"];
}

function showProgress(done, all, began, words = "") {
  byId("progress-bar").value = done / all;
  const seconds = (performance.now() - began) / 1000;
  const rate = done / seconds;
  const left = done > 0 && seconds > 2 ? ` · ${count(Math.round(rate))} a second · ${duration((all - done) / rate)} left` : "";
  byId("progress-text").textContent = `${count(done)} of ${several(all, "text")}${words || left}`;
}

const duration = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`);

function busy(on) {
  byId("stop").hidden = !on;
  byId("predict").hidden = on;
  byId("progress").hidden = true;
  byId("input-form").setAttribute("aria-busy", String(on));
}

async function run() {
  if (running !== null) return;
  const found = given(), lacking = missing(found);
  if (lacking !== null) {
    problem(lacking[0]);
    byId(lacking[1]).focus();
    return;
  }
  problem("");
  byId("status").textContent = "Predicting…";
  const items = [first.chosen, second.chosen].filter(Boolean);
  const predictions = items.map(() => Array.from({ length: found.texts.length }));
  const began = performance.now(), all = found.texts.length;
  let done = 0;
  running = new AbortController();
  const atButton = document.activeElement === byId("predict");
  busy(true);
  if (atButton) byId("stop").focus();
  const late = setTimeout(() => { byId("progress").hidden = false; }, 400);
  showProgress(0, all, began);
  let failed = null;
  try {
    await predictAll(items.map((item) => item.name), found.texts, {
      found: predictions, signal: running.signal,
      onProgress: (now) => { done = now; showProgress(done, all, began); },
      onWait: (seconds) => showProgress(done, all, began, ` · the server is busy, trying again in ${Math.ceil(seconds)} s`),
    });
  } catch (error) {
    failed = error;
  }
  clearTimeout(late);
  const stopHadFocus = document.activeElement === byId("stop");
  running = null;
  busy(false);
  if (stopHadFocus) byId("predict").focus();
  finish({ items, predictions, texts: found.texts, table: found.table, title: `${found.title}-predictions`, versions: items.map((item) => item.version),
    seconds: failed === null ? (performance.now() - began) / 1000 : null }, done, failed);
}

function finish(result, done, failed) {
  const stopped = failed?.name === "AbortError";
  if (failed !== null && !stopped && !refused(failed)) problem(failed.message);
  byId("status").textContent = "";
  if (failed !== null && done === 0) {
    if (stopped) byId("status").textContent = "Stopped.";
    return;
  }
  shown = showResults(byId("results"), result, threshold());
  if (byId("results").getBoundingClientRect().top > 0.75 * innerHeight) byId("results").scrollIntoView({ block: "start" });
  byId("status").textContent = `${stopped ? "Stopped. " : ""}${shown.summary}`;
}

// --- listening ---

byId("kinds").addEventListener("change", () => { problem(""); drawInput(); });
byId("texts").addEventListener("input", drawButton);
byId("stop").addEventListener("click", () => running?.abort());
byId("input-form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
byId("threshold").addEventListener("input", () => {
  const value = threshold();
  const words = value === 0 ? "never" : `${Math.round(100 * value)}%`;
  byId("threshold-value").textContent = words;
  byId("threshold").setAttribute("aria-valuetext", words);
  shown?.setThreshold(value);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !byId("workbench").hidden) {
    event.preventDefault();
    run();
  }
});
// A file that misses the drop zone must not replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

const refused = withToken(async () => {
  const answer = await ask("/v1/classifiers");
  listed = answer.classifiers;
  byId("workbench").hidden = false;
  first.setItems(listed);
  const usable = listed.filter((item) => item.state !== "unusable");
  const wanted = new URLSearchParams(location.hash.slice(1)).get("classifier");
  if (first.chosen === null) first.choose(usable.find((item) => item.name === wanted)?.name ?? usable[0]?.name ?? null);
  if (listed.length === 0) problem("The server has no classifiers. Start it with folders that contain some.");
  drawInput();
});
