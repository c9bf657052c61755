/**
 * The PTX that ships as C++ for the emulator, a function a kernel. So what runs is what NVRTC made of the sources, the inline
 * assembly of `device.cuh` included, and not its twin for the host. It knows the instructions that our kernels have; any other is
 * refused by name.
 */

import { PtxKernel, type } from "./ptx-kernel.ts";

export interface TranslatedKernel {
  readonly name: string;
  readonly source: string;
}

/** Each kernel of the text, as a C++ source. Throws on anything that it does not know. */
export function translate(ptx: string): readonly TranslatedKernel[] {
  const common = sharedIn(ptx.slice(0, ptx.indexOf(".entry")));
  return [...ptx.matchAll(/^\.visible \.entry (\w+)\(([^)]*)\)[^{]*\{\n(.*?)^\}$/gms)].map(
    ([, name = "", parameters = "", body = ""]) => {
      const own =
        body +
        common
          .filter(({ name: one }) => body.includes(one))
          .map(({ line }) => line)
          .join("\n");
      const places = new Map<string, number>();
      let end = 0;
      for (const { name: variable, alignment, bytes } of sharedIn(own)) {
        const place = Math.ceil(end / alignment) * alignment;
        places.set(variable, place);
        end = place + bytes;
      }
      const kernel = new PtxKernel(name, places);
      for (const line of body.split("\n")) kernel.line(line.trim());
      const types = [...parameters.matchAll(/\.param \.(\w+)/g)].map(([, kind = ""]) => type(kind));
      return { name, source: kernel.source(types) };
    },
  );
}

interface SharedVariable {
  readonly name: string;
  readonly alignment: number;
  readonly bytes: number;
  readonly line: string;
}

function sharedIn(text: string): readonly SharedVariable[] {
  return [...text.matchAll(/^\s*\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\];/gm)].map(
    ([line, alignment, name = "", bytes]) => ({
      name,
      alignment: Number(alignment),
      bytes: Number(bytes),
      line,
    }),
  );
}
