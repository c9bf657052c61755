/** The types of `kvengine/connector` for outside authors, from its sources. Writes `connectors/declarations.json`, which the executable holds. */

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..", "..");
export const DECLARATIONS: string = join(ROOT, "connectors", "declarations.json");

/** `BlockLease` is disposable, which older libraries of TypeScript do not know. */
const LIBRARY = '/// <reference lib="esnext.disposable" />\n';

/** Texts of declaration files by their names: of `connectors/connector.ts` and what it is made of. Throws what the compiler says. */
export async function createDeclarations(): Promise<Readonly<Record<string, string>>> {
  const folder = await mkdtemp(join(tmpdir(), "kvengine-declarations-"));
  try {
    const source = join(ROOT, "connectors", "connector.ts");
    const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
    const project = ["--ignoreConfig", "--module", "preserve", "--target", "esnext", "--strict"];
    const emit = ["--declaration", "--emitDeclarationOnly", "--outDir", folder];
    const flags = ["--allowImportingTsExtensions", "--types", "bun-types"];
    const compiler = Bun.spawn([process.execPath, tsc, source, ...project, ...emit, ...flags], {
      cwd: ROOT,
      stdout: "pipe",
    });
    const said = await compiler.stdout.text();
    if ((await compiler.exited) !== 0) throw new Error(`the declarations do not compile: ${said}`);
    const names = (await readdir(folder)).sort();
    const texts = names.map(async (name) => [
      name,
      publish(await Bun.file(join(folder, name)).text()),
    ]);
    const all = Object.fromEntries(await Promise.all(texts)) as Record<string, string>;
    const published = reachable("connector.d.ts", all);
    return Object.fromEntries(Object.entries(all).filter(([name]) => published.has(name)));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** A file and all that its types are made of: what is behind the suite of tiers is nobody's to know. */
function reachable(name: string, texts: Readonly<Record<string, string>>): Set<string> {
  const found = new Set([name]);
  for (const one of found)
    for (const [, next = ""] of (texts[one] ?? "").matchAll(/from "\.\/([\w-]+)\.js"/g))
      found.add(`${next}.d.ts`);
  return found;
}

/** Readable under every setting of the reader's compiler: without endings of source files. */
function publish(text: string): string {
  return LIBRARY + text.replaceAll(/(from "\.\/[\w-]+)\.ts"/g, '$1.js"');
}

/** As it is committed. */
export function declarationsText(declarations: Readonly<Record<string, string>>): string {
  return `${JSON.stringify(declarations, null, 2)}\n`;
}
