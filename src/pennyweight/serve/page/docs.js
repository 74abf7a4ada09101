// The page at `/docs`: /openapi.json as people read it.

import { byId, element } from "/static/dom.js";
import { exampleOf, fieldsOf, typeWords } from "/static/schema.js";
import { ask } from "/static/server.js";
import { withToken } from "/static/token_form.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

/** Descriptions may hold `code` between backticks and blank lines between paragraphs; no other markup is read. */
function prose(words) {
  return (words ?? "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) =>
    element("p", {}, part.split(/`+([^`]+)`+/).map((piece, place) => (place % 2 ? element("code", {}, piece) : piece))));
}

function code(text, label) {
  const button = element("button", { type: "button", "aria-label": `Copy ${label}`, onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.nextElementSibling); // without https the clipboard is out of reach
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } }, "Copy");
  return element("div", { class: "code" }, button, element("pre", { tabindex: "0", "aria-label": label }, text));
}

function fieldTable(fields, caption) {
  return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    element("table", { class: "fields" },
      element("thead", {}, element("tr", {}, ["field", "type", "meaning"].map((title) => element("th", { scope: "col" }, title)))),
      element("tbody", {}, fields.map((field) => element("tr", {},
        element("td", {}, element("code", {}, field.name), field.required ? element("small", { class: "quiet" }, " required") : null),
        element("td", {}, field.type),
        element("td", {}, prose(field.description).length ? prose(field.description) : "", field.standard ? element("span", { class: "quiet" }, `Default ${field.standard}.`) : null))))));
}

function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curlLine(path, method, body, open) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => (name === "name" ? "NAME" : name.toUpperCase()));
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${location.origin}${filled}`];
  if (!open) lines.push('-H "Authorization: Bearer $PENNYWEIGHT_TOKEN"');
  if (body !== null) lines.push("-H 'Content-Type: application/json'", `-d ${shellQuoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}

/** A path that may be broken before its slashes. */
const breakable = (path) => path.split(/(?=\/)/).flatMap((part) => [element("wbr"), part]).slice(1);

const mediaOf = (part) => Object.entries(part?.content ?? {})[0] ?? [null, null];

function answers(responses, spec) {
  const rows = Object.entries(responses ?? {}).filter(([status]) => !/^2/.test(status));
  const good = Object.entries(responses ?? {}).filter(([status]) => /^2/.test(status));
  const shown = good.flatMap(([status, response]) => {
    const [type, media] = mediaOf(response);
    const fields = media?.schema ? fieldsOf(media.schema, spec) : [];
    const parts = [element("h3", {}, `Answer ${status}`)];
    if (response.description && response.description !== "Successful Response") parts.push(...prose(response.description));
    if (type !== null && type !== "application/json") parts.push(element("p", { class: "quiet" }, type));
    if (fields.length) parts.push(fieldTable(fields, `Fields of answer ${status}`));
    else if (type === "application/json" && media.schema) parts.push(element("p", { class: "quiet" }, typeWords(media.schema, spec)));
    if (type === "application/json" && media.schema) {
      const example = exampleOf(media, spec);
      if (example !== null && !(typeof example === "object" && Object.keys(example).length === 0)) parts.push(code(JSON.stringify(example, null, 2), `example of answer ${status}`));
    }
    return parts;
  });
  if (!rows.length) return shown;
  return [...shown, element("details", { class: "errors" }, element("summary", {}, `Errors: ${rows.map(([status]) => status).join(", ")}`),
    element("table", { class: "fields" },
      element("thead", {}, element("tr", {}, ["status", "when"].map((title) => element("th", { scope: "col" }, title)))),
      element("tbody", {}, rows.map(([status, response]) => element("tr", {}, element("td", {}, element("code", {}, status)), element("td", {}, prose(response.description)))))))];
}

function route(path, method, operation, shared, spec, id) {
  const parameters = [...shared, ...(operation.parameters ?? [])];
  const [, media] = mediaOf(operation.requestBody);
  const fields = media?.schema ? fieldsOf(media.schema, spec) : [];
  const example = media ? exampleOf(media, spec) : null;
  return element("section", { class: "panel route", id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, element("span", { class: `method ${method}` }, method.toUpperCase()), element("span", {}, breakable(path))),
    operation.summary ? element("p", {}, element("b", {}, operation.summary)) : null,
    prose(operation.description),
    parameters.length ? [element("h3", {}, "Parameters"), fieldTable(parameters.map((one) => ({
      name: one.name, required: one.required ?? false, type: `${typeWords(one.schema, spec)}, in the ${one.in}`, description: one.description ?? one.schema?.description ?? "", standard: null,
    })), "Parameters")] : null,
    fields.length ? [element("h3", {}, "Body"), fieldTable(fields, "Fields of the body")] : null,
    element("h3", {}, "Request"), code(curlLine(path, method, example, operation.security?.length === 0), `request of ${method.toUpperCase()} ${path}`),
    answers(operation.responses, spec));
}

function draw(spec) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(spec.paths ?? {})) {
    for (const method of METHODS.filter((one) => methods[one])) {
      const operation = methods[method], tag = operation.tags?.[0] ?? "Routes";
      const id = `${method}${path}`.replace(/[^a-z0-9]+/gi, "-").replace(/-$/, "");
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push({ path, method, id, node: route(path, method, operation, methods.parameters ?? [], spec, id) });
    }
  }
  // Folded on a phone, where it would fill the first screen.
  byId("contents").replaceChildren(element("details", { open: matchMedia("(min-width: 56rem)").matches }, element("summary", {}, "Routes"),
    [...groups].flatMap(([tag, routes]) => [
      element("h2", {}, tag),
      element("ul", {}, routes.map((one) => element("li", {}, element("a", { href: `#${one.id}` },
        element("span", { class: `method ${one.method}` }, one.method.toUpperCase()), element("span", {}, breakable(one.path)))))),
    ])));
  byId("routes").replaceChildren(
    element("div", {}, element("h1", {}, spec.info?.title ?? "API"), prose(spec.info?.description),
      element("p", { class: "quiet" }, `Version ${spec.info?.version ?? ""} · `, element("a", { href: "#", download: "openapi.json", onclick: (event) => save(event, spec) }, "openapi.json"))),
    ...[...groups.values()].flat().map((one) => one.node));
  byId("api").hidden = false;
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

/** The specification needs the token, so a plain link to it would be refused. */
function save(event, spec) {
  const address = URL.createObjectURL(new Blob([JSON.stringify(spec, null, 2)], { type: "application/json" }));
  event.currentTarget.href = address;
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

withToken(async () => draw(await ask("/openapi.json")));
