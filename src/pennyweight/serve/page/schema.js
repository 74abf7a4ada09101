// JSON schemas as people read them: a type in words, the fields of an object, an example value.

/** The schema behind `$ref`; other schemas as they are. */
export function resolve(schema, spec) {
  let found = schema ?? {};
  for (let steps = 0; found.$ref && steps < 20; steps += 1) {
    const target = found.$ref.split("/").slice(1).reduce((value, part) => value?.[part.replace(/~1/g, "/").replace(/~0/g, "~")], spec) ?? {};
    const { $ref: _, ...own } = found;
    found = { ...target, ...own };
  }
  return found;
}

const alternatives = (schema) => schema.anyOf ?? schema.oneOf ?? null;

const plural = (words) => (/^(string|integer|number|boolean|object|list)\b/.test(words) ? words.replace(/^\w+/, "$&s") : words);

/** `list of strings`, `number, 0 to 1, or null`. */
export function typeWords(given, spec, depth = 0) {
  const schema = resolve(given, spec);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (Array.isArray(schema.type)) return schema.type.join(" or ");
  if (schema.type === undefined && alternatives(schema) && depth < 4) {
    return [...new Set(alternatives(schema).map((one) => typeWords(one, spec, depth + 1)))].join(", or ");
  }
  if (schema.type === "array") return arrayWords(schema, spec, depth);
  if (schema.type === "object" || schema.properties) {
    const values = schema.additionalProperties;
    return values && typeof values === "object" && Object.keys(values).length && depth < 4 ? `object of ${plural(typeWords(values, spec, depth + 1))}` : "object";
  }
  return (schema.type ?? "any value") + range(schema);
}

function arrayWords(schema, spec, depth) {
  if (depth > 3) return "list";
  if (!schema.items && alternatives(schema)) {
    return [...new Set(alternatives(schema).map((one) => arrayWords({ ...one, minItems: one.minItems ?? schema.minItems }, spec, depth + 1)))].join(", or ");
  }
  const { minItems: least, maxItems: most } = schema;
  const inner = schema.items ? plural(typeWords(schema.items, spec, depth + 1)) : "values";
  if (least !== undefined && least === most) return `list of ${least} ${inner}`;
  return `list of ${inner}${most !== undefined ? `, ${least ?? 0} to ${most}` : least > 1 ? `, at least ${least}` : least ? ", not empty" : ""}`;
}

function range({ minimum, maximum, minLength, maxLength }) {
  if (minimum !== undefined && maximum !== undefined) return `, ${minimum} to ${maximum}`;
  if (minimum !== undefined) return `, at least ${minimum}`;
  if (maximum !== undefined) return `, at most ${maximum}`;
  if (minLength && maxLength === undefined) return minLength === 1 ? ", not empty" : `, at least ${minLength} characters`;
  return maxLength !== undefined ? `, at most ${maxLength} characters` : "";
}

/** `[{name, type, required, description, standard}]` of an object, or of the objects in a list; then what is in these. */
export function fieldsOf(given, spec, above = "") {
  const schema = objectIn(given, spec);
  if (schema === null || above.split(".").length > 2) return []; // two levels are enough, and schemas may hold themselves
  return Object.entries(schema.properties).flatMap(([key, field]) => {
    const own = resolve(field, spec), name = above + key;
    return [{
      name, type: typeWords(field, spec), required: schema.required?.includes(key) ?? false, description: own.description ?? "",
      standard: own.default === undefined || own.default === null ? null : JSON.stringify(own.default),
    }, ...fieldsOf(field, spec, `${name}${own.type === "array" ? "[]" : ""}.`)];
  });
}

/** The object that a schema is, lists or may be besides null. */
function objectIn(given, spec) {
  const schema = resolve(given, spec);
  if (schema.properties) return schema;
  if (schema.type === "array" && schema.items) return objectIn(schema.items, spec);
  const others = (alternatives(schema) ?? []).filter((one) => resolve(one, spec).type !== "null");
  return others.length === 1 ? objectIn(others[0], spec) : null;
}

/** An example of a media type or a schema: one that is given, else one made from types. */
export function exampleOf(media, spec) {
  if (media.example !== undefined) return media.example;
  const [named] = Object.values(media.examples ?? {});
  if (named !== undefined) return named.value;
  return exampleValue(media.schema, spec);
}

function exampleValue(given, spec, depth = 0) {
  const schema = resolve(given, spec);
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (depth > 5) return null;
  if (schema.type === "array") return schema.items ? [exampleValue(schema.items, spec, depth + 1)] : [];
  if (schema.type === undefined && alternatives(schema)) return exampleValue(alternatives(schema)[0], spec, depth + 1);
  if (schema.type === "object" || schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, field]) => [name, exampleValue(field, spec, depth + 1)]));
  }
  return { string: "string", integer: 0, number: 0.5, boolean: false }[schema.type] ?? null;
}
