import { describe, expect, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isSafePath, parseModelSpec } from "../../../engine/hub/model-spec.ts";
import { chooseFile } from "../../../engine/hub/quant.ts";
import { resolveModel } from "../../../engine/hub/resolve.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

describe("what a user writes for a model", () => {
  test.each([
    ["tiny", { kind: "alias", alias: "tiny" }],
    ["./tiny", { kind: "file", path: "./tiny" }],
    ["/a b/c.gguf", { kind: "file", path: "/a b/c.gguf" }],
    ["hf:org/re.po-1", { kind: "hub", repo: "org/re.po-1", revision: "main" }],
    ["hf:org/repo:Q4_K_M", { kind: "hub", repo: "org/repo", revision: "main", quant: "Q4_K_M" }],
    [
      "hf:org/repo/sub/m.gguf",
      { kind: "hub", repo: "org/repo", revision: "main", file: "sub/m.gguf" },
    ],
  ] as const)("%s", (spec, parsed) => {
    expect(parseModelSpec(spec, ["tiny"])).toEqual(parsed);
  });

  test.each([
    "",
    "hf:",
    "hf:org",
    "hf:org/",
    "hf:/repo",
    "hf:../repo",
    "hf:org/..",
    "hf:org/repo:",
    "hf:org/repo:a b",
    "hf:org/repo/x.bin",
    "hf:org/repo/../x.gguf",
  ])("%p is refused", async (spec) => {
    const error = await thrownBy(() => parseModelSpec(spec, ["tiny"]));
    expect([error.code, error.subject]).toEqual(["invalid_request", "model"]);
    expect(error.hint).toContain("hf:org/repo:Q4_K_M");
  });

  test.each([
    "../a.gguf",
    "/a.gguf",
    "a//b.gguf",
    "a/./b.gguf",
    "c:a.gguf",
    "a\\b.gguf",
    "a.txt",
    "",
  ])("%p is no path in a repository", (path) => {
    expect(isSafePath(path)).toBe(false);
  });
});

describe("the file of a repository is chosen:", () => {
  const files = [
    "m-BF16.gguf",
    "m-F16.gguf",
    "m.Q4_K.gguf",
    "m-Q4_K_M.gguf",
    "deep/er/m-Q4_K_M.gguf",
    "m_q8_0.gguf",
    "mmproj-m-Q4_0.gguf",
    "m-Q6_K-00001-of-00002.gguf",
  ];
  test.each([
    [undefined, "m-Q4_K_M.gguf"],
    ["Q8_0", "m_q8_0.gguf"],
    ["q4_k", "m.Q4_K.gguf"],
    ["F16", "m-F16.gguf"],
    ["Q4_0", undefined],
    ["Q6_K", undefined],
    [".", undefined],
  ])("%p", (quant, file) => {
    expect(chooseFile(files, quant)).toBe(file);
  });

  test("Q8_0 where there is no Q4_K_M, the only one where there is one", () => {
    expect(chooseFile(["m-F16.gguf", "m-Q8_0.gguf"], undefined)).toBe("m-Q8_0.gguf");
    expect(chooseFile(["m-F16.gguf", "m-F32.gguf"], undefined)).toBeUndefined();
    expect(chooseFile(["mmproj-F16.gguf", "m-F32.gguf"], undefined)).toBe("m-F32.gguf");
  });
});

describe("a path", () => {
  const folder = temporaryFolder();
  const env = { HOME: folder };

  test("to a file, or a link to one, is used as it is", async () => {
    writeFileSync(join(folder, "a.gguf"), "x");
    symlinkSync("a.gguf", join(folder, "b.gguf"));
    expect(await resolveModel(join(folder, "a.gguf"), { env })).toBe(join(folder, "a.gguf"));
    expect(await resolveModel(join(folder, "b.gguf"), { env })).toBe(join(folder, "b.gguf"));
  });

  test("to nothing is an error that names the aliases", async () => {
    const error = await thrownBy(
      async () => await resolveModel(join(folder, "none.gguf"), { env }),
    );
    expect([error.code, error.message]).toEqual([
      "model_not_found",
      expect.stringContaining(
        "there is no such file; it is no alias either (there are smollm2-135m)",
      ),
    ]);
  });

  test("that looks like a repository is an error that says how to write one", async () => {
    expect((await thrownBy(async () => await resolveModel("org/repo:Q8_0", { env }))).hint).toBe(
      "for a Hugging Face repository write hf:org/repo:Q8_0",
    );
  });

  test("to a folder is an error that names the models in it", async () => {
    mkdirSync(join(folder, "sub"));
    writeFileSync(join(folder, "sub", "c.gguf"), "x");
    const error = await thrownBy(async () => await resolveModel(join(folder, "sub"), { env }));
    expect([error.code, error.hint]).toEqual(["model_not_found", "in it are c.gguf"]);
  });
});
