/** `/openapi.json`: made from the routes and from the schemas that bodies are checked against. */

import { z } from "zod";
import type { AppDeps } from "./deps.ts";
import { HARMLESS } from "./fields.ts";
import type { Route } from "./routes.ts";

/** An OpenAPI 3.1 document. */
export function describeApi(routes: readonly Route[], deps: AppDeps): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)/g, "{$1}").replace("*", "{name}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route, path) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "kvengine",
      version: deps.version,
      description:
        "OpenAI's API over one model. A field that is not listed is refused by name, but for these, which change nothing about an answer " +
        `and are named in the header x-kvengine-warnings: ${[...HARMLESS].join(", ")}.`,
    },
    servers: [{ url: deps.rootPath === undefined || deps.rootPath === "" ? "/" : deps.rootPath }],
    paths,
    components: {
      schemas: { Error: ERROR },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
  };
}

function operation({ summary, schema, isOpen }: Route, path: string): object {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
  return {
    summary,
    ...(isOpen === true ? { security: [] } : { security: [{ key: [] }] }),
    ...(names.length === 0
      ? {}
      : {
          parameters: names.map((name) => ({
            name,
            in: "path",
            required: true,
            schema: { type: "string" },
          })),
        }),
    ...(schema === undefined
      ? {}
      : { requestBody: { required: true, content: json(bodySchema(schema)) } }),
    responses: {
      200: { description: "What was asked for" },
      default: { description: "An error", content: json({ $ref: "#/components/schemas/Error" }) },
    },
  };
}

function bodySchema(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return rest;
}

function json(schema: object): object {
  return { "application/json": { schema } };
}

const ERROR = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: { type: "string" },
        type: { type: "string" },
        param: { type: ["string", "null"], description: "The field that is wrong" },
        code: { type: "string" },
      },
    },
  },
};
