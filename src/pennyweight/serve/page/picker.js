// Choosing one of thousands: a combobox after the ARIA pattern (https://www.w3.org/WAI/ARIA/apg/patterns/combobox/).

import { count, element } from "/static/dom.js";

const SHOWN = 50;

const described = (item) => {
  if (item.state === "unusable") return "cannot be used";
  const parts = [`${count(item.labels?.length ?? 0)} labels`];
  if (isMulti(item)) parts.push("multi-label");
  if (item.pair) parts.push("pairs");
  return parts.join(" · ");
};

/** Whether a text may get any number of labels. */
export const isMulti = (item) => /multi/.test(String(item.task ?? ""));

/**
 * A field that searches names and labels.
 *
 * `picker.setItems(items)` takes what GET /v1/classifiers lists; `picker.choose(name)` chooses, null clears;
 * `onChoose(item or null)` is told of every change.
 */
export function makePicker(place, { id, label, empty, clearable = false, onChoose }) {
  let items = [], matching = [], active = -1, chosen = null;
  const input = element("input", {
    id, type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder: empty,
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": `${id}-list`,
  });
  const list = element("ul", { id: `${id}-list`, role: "listbox", "aria-label": label });
  const more = element("p", { class: "quiet more", role: "status" });
  const popup = element("div", { class: "popup", hidden: true }, list, more);
  const clear = element("button", { type: "button", class: "plain clear", "aria-label": `Clear: ${label}`, hidden: true,
    onclick: () => { choose(null); input.focus(); } }, "×");
  place.append(element("label", { for: id }, label), element("div", { class: "combobox" }, input, clear, popup));

  function search() {
    const words = chosen !== null && input.value === chosen.name ? [] : input.value.toLowerCase().split(/\s+/).filter(Boolean);
    matching = items.filter((item) => words.every((word) => item.sought.includes(word)));
    active = chosen === null ? -1 : matching.slice(0, SHOWN).findIndex((item) => item.name === chosen.name);
    list.replaceChildren(...matching.slice(0, SHOWN).map(option));
    more.textContent = matching.length === 0 ? (items.length ? "No classifier has such a name or label." : "No classifier to choose.")
      : matching.length > SHOWN ? `${count(matching.length - SHOWN)} more: type a part of a name or a label` : "";
    mark();
  }

  function option(item, place) {
    const disabled = item.state === "unusable";
    return element("li", { id: `${id}-${place}`, role: "option", "aria-disabled": disabled ? "true" : null, title: item.problem || null,
      "aria-selected": String(chosen?.name === item.name), onpointerdown: (event) => { event.preventDefault(); take(place); } },
      element("span", { class: "name" }, item.name), element("span", { class: "quiet" }, described(item)));
  }

  function mark() {
    [...list.children].forEach((child, place) => child.classList.toggle("active", place === active));
    const child = list.children[active];
    if (child && !popup.hidden) {
      input.setAttribute("aria-activedescendant", child.id);
      child.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  function open(shown) {
    popup.hidden = !shown;
    input.setAttribute("aria-expanded", String(shown));
    if (shown) search();
    else {
      input.removeAttribute("aria-activedescendant");
      input.value = chosen?.name ?? "";
    }
  }

  function take(place) {
    const item = matching[place];
    if (item === undefined || item.state === "unusable") return;
    choose(item.name);
    open(false);
  }

  function choose(name) {
    const found = items.find((item) => item.name === name) ?? null;
    const changed = found?.name !== chosen?.name;
    chosen = found;
    input.value = chosen?.name ?? "";
    clear.hidden = !clearable || chosen === null;
    if (changed) onChoose(chosen);
  }

  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => open(true));
  input.addEventListener("input", () => { open(true); active = matching.length && input.value ? 0 : -1; mark(); });
  input.addEventListener("blur", () => {
    if (clearable && input.value.trim() === "" && chosen !== null) choose(null);
    open(false);
  });
  input.addEventListener("keydown", (event) => {
    const last = Math.min(matching.length, SHOWN) - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (popup.hidden) open(true);
      else active = event.key === "ArrowDown" ? (active >= last ? 0 : active + 1) : active <= 0 ? last : active - 1;
      mark();
    } else if (event.key === "Enter" && !popup.hidden && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      take(active);
    } else if (event.key === "Escape" && !popup.hidden) {
      event.preventDefault();
      open(false);
    }
  });

  return {
    choose,
    get chosen() { return chosen; },
    setItems(given) {
      items = given.map((item) => ({ ...item, sought: [item.name, ...(item.labels ?? [])].join(" ").toLowerCase() }));
      const kept = items.find((item) => item.name === chosen?.name);
      if (chosen !== null && kept === undefined) choose(null);
      else if (kept !== undefined) chosen = kept;
      input.disabled = items.length === 0;
    },
  };
}
