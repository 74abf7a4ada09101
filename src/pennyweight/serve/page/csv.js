// CSV files as RFC 4180 has them (https://www.rfc-editor.org/rfc/rfc4180): read, and written so that no spreadsheet runs
// a cell as a formula.

export const DELIMITERS = { ",": "comma", ";": "semicolon", "\t": "tab", "": "none: one text a line" };
const SAMPLE_ROWS = 200;
const SAMPLE_CHARACTERS = 200_000;

/** What is wrong with a file: in one line, with what to do. */
export class CsvError extends Error {}

/** The text of a file's bytes. Other encodings than UTF-8 are never guessed. */
export function decode(bytes, name) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new CsvError(`${name}: not UTF-8; save it again as “CSV UTF-8”`);
  }
}

/**
 * Rows of cells. Quotes hold delimiters and line ends, two quotes in them are one; a quote inside an unquoted cell is a
 * character like any other. Blank lines are left out. `most` rows are enough; then a cell cut by the text's end is no error.
 */
export function parseCsv(text, delimiter, most = Infinity) {
  const rows = [];
  let row = [], at = 0, line = 1;
  const end = text.length;
  const endRow = () => {
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  };
  while (at < end && rows.length < most) {
    let cell;
    if (text[at] === '"') {
      const opened = line, parts = [];
      let from = at + 1;
      for (;;) {
        const quote = text.indexOf('"', from);
        if (quote < 0) {
          if (most !== Infinity) return rows;
          throw new CsvError(`line ${opened}: a quote is opened and never closed; close it or double the quotes inside the cell`);
        }
        parts.push(text.slice(from, quote));
        from = quote + 1;
        if (text[from] !== '"') break;
        parts.push('"');
        from += 1;
      }
      cell = parts.join("");
      for (const character of cell) if (character === "\n") line += 1;
      at = from;
      const rest = plainEnd(text, at, delimiter);
      cell += text.slice(at, rest); // what follows the closing quote belongs to the cell, as in Python's csv
      at = rest;
    } else {
      const stop = plainEnd(text, at, delimiter);
      cell = text.slice(at, stop);
      at = stop;
    }
    row.push(cell);
    if (at < end && delimiter !== "" && text[at] === delimiter) {
      at += 1;
      if (at === end) row.push("");
      else continue;
    }
    if (text[at] === "\r" && text[at + 1] === "\n") at += 1;
    at += 1;
    line += 1;
    endRow();
  }
  if (row.length) endRow();
  return rows;
}

function plainEnd(text, from, delimiter) {
  let at = from;
  while (at < text.length && text[at] !== "\n" && text[at] !== "\r" && (delimiter === "" || text[at] !== delimiter)) at += 1;
  return at;
}

/** The delimiter that gives the most rows of one width; none where no delimiter does, or where they look like prose. */
export function guessDelimiter(text) {
  let best = "", bestScore = 0;
  for (const delimiter of ["\t", ";", ","]) { // of two that fit as well the rarer in prose
    const rows = parseCsv(text.slice(0, SAMPLE_CHARACTERS), delimiter, SAMPLE_ROWS);
    const widths = new Map();
    for (const row of rows) widths.set(row.length, (widths.get(row.length) ?? 0) + 1);
    const [width, agreeing] = [...widths].sort((a, b) => b[1] - a[1] || b[0] - a[0])[0] ?? [1, 0];
    const share = agreeing / rows.length;
    if (width < 2 || share < 0.8) continue;
    const inside = rows.flatMap((row) => row.slice(1));
    const prose = delimiter !== "\t" && inside.every((cell) => /^\s/.test(cell)) && !rows[0].some(isUsualName);
    const score = share + Math.min(width, 50) / 1000;
    if (!prose && score > bestScore) [best, bestScore] = [delimiter, score];
  }
  return best;
}

const TEXT_NAMES = ["text", "texts", "sentence", "content", "review", "document", "comment", "message", "tweet", "post",
  "body", "description", "abstract", "summary", "article", "news", "utterance", "query", "question", "headline", "title", "subject"];
const FIRST_NAMES = ["text_a", "text1", "text_1", "sentence1", "sentence_1", "premise", "question1", "question_1", "query", "question"];
const SECOND_NAMES = ["text_b", "text2", "text_2", "sentence2", "sentence_2", "hypothesis", "question2", "question_2", "passage", "answer"];
const LABEL_NAMES = ["label", "labels", "class", "category", "target", "class_index", "class_label", "topic", "sentiment", "intent",
  "emotion", "y", "label_text", "tags", "topics", "categories", "classes", "genres", "emotions", "intents", "targets", "keywords"];
const ID_NAMES = ["id", "ids", "idx", "index", "uid", "uuid", "guid", "key"];
const OTHER_NAMES = ["row", "number", "url", "date", "time", "timestamp", "author", "user", "source", "lang", "language", "split", "score",
  "rating", "stars"];
const USUAL = new Set([...TEXT_NAMES, ...FIRST_NAMES, ...SECOND_NAMES, ...LABEL_NAMES, ...ID_NAMES, ...OTHER_NAMES]);
const key = (name) => name.trim().toLowerCase().replace(/[\s-]+/g, "_");
const isUsualName = (cell) => USUAL.has(key(cell)) || USUAL.has(key(cell).replace(/_?\d+$/, ""));

/** Whether the first row holds the columns' names. */
export function guessHeader(rows) {
  const [first, ...below] = rows;
  if (first === undefined) return false;
  if (first.some(isUsualName)) return true;
  if (below.length === 0) return false;
  if (first.length < 2 || first.some((cell) => cell.length > 40 || cell === "" || !Number.isNaN(Number(cell)))) return false;
  return new Set(first).size === first.length && first.some((cell, place) => meanLength(below, place) > 3 * cell.length + 10);
}

const meanLength = (rows, place) => {
  const sample = rows.slice(0, SAMPLE_ROWS);
  return sample.reduce((sum, row) => sum + (row[place] ?? "").length, 0) / Math.max(1, sample.length);
};

/** The columns that are probably the text, or the two texts of a pair. */
export function guessColumns(names, rows, pair) {
  const named = (wanted) => wanted.map((name) => names.map(key).indexOf(name)).find((place) => place >= 0);
  const longest = names.map((_, place) => place).sort((a, b) => meanLength(rows, b) - meanLength(rows, a));
  if (!pair) return [named(TEXT_NAMES) ?? longest[0]];
  const first = named(FIRST_NAMES) ?? Math.min(...longest.slice(0, 2));
  const second = named(SECOND_NAMES);
  return [first, second !== undefined && second !== first ? second : longest.find((place) => place !== first) ?? first];
}

const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const NUMBER = /^[+-]?(?:\d[\d.,]*|\.\d+)(?:[eE][+-]?\d+)?%?$/;

/** A cell that a spreadsheet would run, with an apostrophe in front. https://owasp.org/www-community/attacks/CSV_Injection */
export const escapeFormula = (cell) => (FORMULA.test(cell) && !NUMBER.test(cell) ? `'${cell}` : cell);

/** Whether a column's name says that it holds ids or labels, which stay exact. */
const isExactName = (name) =>
  LABEL_NAMES.includes(key(name)) || /_labels?$/i.test(name) || ID_NAMES.includes(key(name)) || key(name).endsWith("_id")
  || /[a-z]I[dD]$/.test(name.trim());

const quoted = (cell) => (/[",\r\n;\t]|^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** The text of a CSV file. `texts`: places of columns that were read as the text, escaped whatever their names. */
export function writeCsv(header, rows, texts = []) {
  const guarded = header.map((name, place) => texts.includes(place) || !isExactName(name));
  const line = (cells) => cells.map((cell, place) => quoted(guarded[place] ? escapeFormula(cell) : cell)).join(",");
  return [header, ...rows].map((cells) => `${line(cells.map((cell) => String(cell ?? "")))}\r\n`).join("");
}
