/** `/docs`: a page that shows `/openapi.json` to people. It needs nothing from the network. */

export const DOCS_PAGE: string = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>kvengine: the API</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --dim: #888; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  code, summary b { font-family: ui-monospace, monospace; font-size: 0.92em; }
  details { border: 1px solid var(--line); border-radius: 6px; margin: 0.5rem 0; padding: 0.4rem 0.8rem; }
  summary { cursor: pointer; }
  summary span { color: var(--dim); margin-left: 0.7rem; }
  table { border-collapse: collapse; width: 100%; margin: 0.5rem 0; }
  td { border-top: 1px solid var(--line); padding: 0.25rem 0.8rem 0.25rem 0; vertical-align: top; }
  td:last-child { color: var(--dim); }
</style>
<h1>kvengine</h1>
<p id="about"></p>
<main></main>
<p>For programs: <a href="openapi.json">openapi.json</a></p>
<script type="module">
  const element = (name, text = "", children = []) => {
    const made = document.createElement(name);
    made.textContent = text;
    made.append(...children);
    return made;
  };
  const typeOf = (schema) => {
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
    const forms = schema.anyOf ?? schema.oneOf;
    if (forms) return [...new Set(forms.map(typeOf))].filter((type) => type !== "null").join(" | ");
    if (schema.type === "array") return "array of " + typeOf(schema.items ?? {});
    return schema.type ?? "any";
  };
  const fieldsOf = (schema) => (schema.anyOf ? schema.anyOf.flatMap(fieldsOf) : Object.entries(schema.properties ?? {}));
  const show = (path, method, operation) => {
    const schema = operation.requestBody?.content["application/json"].schema;
    const rows = new Map(schema ? fieldsOf(schema) : []);
    const required = schema?.required ?? [];
    const table = element("table", "", [...rows].map(([name, field]) =>
      element("tr", "", [
        element("td", "", [element("code", name + (required.includes(name) ? " *" : ""))]),
        element("td", typeOf(field)),
        element("td", field.description ?? ""),
      ]),
    ));
    const head = element("summary", "", [element("b", method.toUpperCase() + " " + path), element("span", operation.summary)]);
    return element("details", "", [head, table]);
  };
  const api = await (await fetch("openapi.json")).json();
  document.querySelector("#about").textContent = "Version " + api.info.version + ". " + api.info.description;
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods))
      document.querySelector("main").append(show(path, method, operation));
</script>
</html>
`;
