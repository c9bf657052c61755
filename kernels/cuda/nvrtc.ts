/** CUDA C++ to PTX by NVRTC's C interface, in this process: it needs neither nvcc nor a host compiler. */
import { CString, dlopen, FFIType, type Pointer, ptr } from "bun:ffi";
import { join } from "node:path";

/** What the kernels are compiled with. No contraction: a fused multiply-add is written out where it is meant. */
const OPTIONS: readonly string[] = ["--gpu-architecture=compute_80", "--std=c++17", "--fmad=false"];

const INTERFACE = {
  nvrtcCreateProgram: {
    args: [FFIType.ptr, FFIType.ptr, FFIType.ptr, FFIType.i32, FFIType.ptr, FFIType.ptr],
    returns: FFIType.i32,
  },
  nvrtcCompileProgram: { args: [FFIType.ptr, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  nvrtcGetProgramLogSize: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  nvrtcGetProgramLog: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  nvrtcGetPTXSize: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  nvrtcGetPTX: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  nvrtcGetErrorString: { args: [FFIType.i32], returns: FFIType.ptr },
} as const;

/** Any function of the second library: Bun opens none without one. */
const BUILTINS = {
  __nvrtc_builtins__12_0_getArchBuiltins: { args: [], returns: FFIType.ptr },
} as const;

/**
 * The PTX of a file, whose includes are looked for beside it.
 * @param libraries the folder of libnvrtc.
 * @param file its path; the PTX does not depend on the folder.
 */
export async function compile(libraries: string, file: string): Promise<string> {
  // NVRTC opens its second library by name: it must be in the process already.
  dlopen(join(libraries, "libnvrtc-builtins.so.12.0"), BUILTINS);
  const { symbols: nvrtc } = dlopen(join(libraries, "libnvrtc.so.12"), INTERFACE);
  const check = (what: string, code: number): void => {
    if (code === 0) return;
    const text = nvrtc.nvrtcGetErrorString(code);
    throw new Error(`${file}: ${what}: ${text === null ? code : new CString(text)}`);
  };
  const text = (size: (at: Pointer) => number, read: (at: Pointer) => number): string => {
    const length = new BigUint64Array(1);
    check("its size", size(ptr(length)));
    const bytes = new Uint8Array(Number(length[0] ?? 0n));
    check("its text", read(ptr(bytes)));
    return new TextDecoder().decode(bytes.subarray(0, -1));
  };

  const source = terminated(await Bun.file(file).text());
  const name = terminated(file.slice(file.lastIndexOf("/") + 1));
  const handle = new BigUint64Array(1);
  check("create", nvrtc.nvrtcCreateProgram(ptr(handle), ptr(source), ptr(name), 0, null, null));
  const program = Number(handle[0] ?? 0n) as Pointer;

  const options = [...OPTIONS, `--include-path=${file.slice(0, file.lastIndexOf("/"))}`].map(
    terminated,
  );
  const pointers = BigUint64Array.from(options, (option) => BigInt(ptr(option)));
  const code = nvrtc.nvrtcCompileProgram(program, options.length, ptr(pointers));
  if (code !== 0) {
    const log = text(
      (at) => nvrtc.nvrtcGetProgramLogSize(program, at),
      (at) => nvrtc.nvrtcGetProgramLog(program, at),
    );
    throw new Error(`${file} does not compile:\n${log}`);
  }
  return text(
    (at) => nvrtc.nvrtcGetPTXSize(program, at),
    (at) => nvrtc.nvrtcGetPTX(program, at),
  );
}

function terminated(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}
