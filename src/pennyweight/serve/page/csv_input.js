// The CSV panel: a file dropped or chosen, how it is read, which columns are the text.

import { CsvError, DELIMITERS, decode, guessColumns, guessDelimiter, guessHeader, parseCsv } from "/static/csv.js";
import { byId, count, element, several } from "/static/dom.js";

const MOST_BYTES = 64 << 20;
const PREVIEW_ROWS = 3;

/**
 * Listens to the panel. `onFile()` is told when a file was read, `onProblem(words)` when one could not be.
 *
 * `input.table()` is what was read: `{names, rows, texts: places of the text columns, title}`, null without a file.
 */
export function makeCsvInput({ onFile, onProblem }) {
  const drop = byId("drop"), file = byId("file"), options = byId("csv-options");
  let pair = false, name = "", text = "", rows = [], delimiter = ",", header = true, chosen = [];

  const names = () => {
    const width = rows.slice(0, 1000).reduce((most, row) => Math.max(most, row.length), 0);
    if (!header) return Array.from({ length: width }, (_, place) => (width === 1 ? "text" : `column ${place + 1}`));
    return Array.from({ length: width }, (_, place) => rows[0][place] || `column ${place + 1}`);
  };
  const below = () => (header ? rows.slice(1) : rows);

  async function take(given) {
    if (!given) return;
    try {
      if (given.size > MOST_BYTES) throw new CsvError(`${given.name}: over 64 MB; use “pennyweight predict” for a file of this size`);
      text = decode(await given.arrayBuffer(), given.name);
      name = given.name;
      const excel = /^"?sep=(.)"?\r?\n/i.exec(text); // Excel's own line about the delimiter
      if (excel) text = text.slice(excel[0].length);
      delimiter = excel && excel[1] in DELIMITERS ? excel[1] : guessDelimiter(text);
      read(true);
      onFile();
    } catch (error) {
      forget();
      onProblem(error instanceof CsvError ? error.message : `${given.name}: could not be read`);
    }
  }

  function forget() {
    rows = [];
    options.hidden = true;
  }

  function read(guess) {
    try {
      rows = parseCsv(text, delimiter);
    } catch (error) {
      throw new CsvError(`${name}, ${error.message}`);
    }
    if (guess) header = guessHeader(rows);
    if (below().length === 0) throw new CsvError(`${name}: no rows`);
    chosen = guessColumns(names(), below(), pair);
    draw();
  }

  function again(change) {
    change();
    try {
      read(false);
      onProblem("");
    } catch (error) {
      onProblem(error.message);
    }
  }

  function columnChoice(which, title) {
    const id = `column-${which}`;
    return element("div", {}, element("label", { for: id }, title), element("select", { id, onchange: (event) => {
      chosen[which] = Number(event.target.value);
      draw();
      byId(id).focus();
    } }, names().map((column, place) => element("option", { value: place, selected: place === chosen[which] }, column))));
  }

  const shortened = (cell) => (cell.length > 160 ? `${cell.slice(0, 150)}…` : cell);

  function preview() {
    const columns = names();
    const head = element("tr", {}, columns.map((column, place) => element("th", { scope: "col", class: chosen.includes(place) ? "chosen" : "" },
      column, chosen.includes(place) ? element("small", {}, pair ? ` text ${chosen.indexOf(place) + 1}` : " text") : null)));
    const cells = (row) => element("tr", {}, columns.map((_, place) => element("td", { class: chosen.includes(place) ? "chosen" : "", dir: "auto" },
      shortened(row[place] ?? ""))));
    return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "First rows of the file" },
      element("table", {}, element("thead", {}, head), element("tbody", {}, below().slice(0, PREVIEW_ROWS).map(cells))));
  }

  function draw() {
    const width = names().length;
    const ragged = rows.filter((row) => row.length !== width).length;
    options.replaceChildren(
      element("p", {}, element("b", {}, name), ` · ${several(below().length, "row")}`,
        ragged ? ` · ${count(ragged)} with another number of cells: check the delimiter` : ""),
      element("div", { class: "options" },
        pair ? [columnChoice(0, "First text"), columnChoice(1, "Second text")] : columnChoice(0, "Text column"),
        element("div", {}, element("label", { for: "delimiter" }, "Delimiter"), element("select", { id: "delimiter", onchange: (event) => {
          again(() => { delimiter = event.target.value; });
          byId("delimiter").focus();
        } }, Object.entries(DELIMITERS).map(([mark, title]) => element("option", { value: mark, selected: mark === delimiter }, title)))),
        element("label", { class: "check" }, element("input", { type: "checkbox", id: "header", checked: header, onchange: (event) => {
          again(() => { header = event.target.checked; });
          byId("header").focus();
        } }), " The first row holds names")),
      preview());
    options.hidden = false;
  }

  file.addEventListener("change", () => { take(file.files[0]); file.value = ""; });
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });

  return {
    setPair(given) {
      if (given === pair) return;
      pair = given;
      if (rows.length) again(() => {});
    },
    table: () => (rows.length ? { names: names(), rows: below(), texts: [...chosen], title: name.replace(/\.[^.]*$/, "") } : null),
  };
}
