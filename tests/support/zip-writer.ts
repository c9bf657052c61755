/** Writes zip archives for tests: deflated files, no extras. Format: APPNOTE.TXT of PKWARE, 4.3. */

import { crc32, deflateRawSync } from "node:zlib";

export function encodeZip(files: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const [name, bytes] of Object.entries(files)) {
    const packed = deflateRawSync(bytes);
    const nameBytes = new TextEncoder().encode(name);
    // Version, flags, method, time, date; CRC and sizes; lengths of the name and of extras.
    const common = fields(
      [20, 2],
      [0, 2],
      [8, 2],
      [0, 2],
      [0x21, 2],
      [crc32(bytes), 4],
      [packed.length, 4],
      [bytes.length, 4],
      [nameBytes.length, 2],
      [0, 2],
    );
    const local = Buffer.concat([fields([0x04034b50, 4]), common, nameBytes, packed]);
    directory.push(
      Buffer.concat([
        fields([0x02014b50, 4], [20, 2]),
        common,
        fields([0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]),
        nameBytes,
      ]),
    );
    parts.push(local);
    offset += local.length;
  }
  const count = directory.length;
  const list = Buffer.concat(directory);
  const end = fields(
    [0x06054b50, 4],
    [0, 2],
    [0, 2],
    [count, 2],
    [count, 2],
    [list.length, 4],
    [offset, 4],
    [0, 2],
  );
  return Buffer.concat([...parts, list, end]);
}

/** Little-endian numbers of 2 or 4 bytes. */
function fields(...values: readonly (readonly [value: number, bytes: 2 | 4])[]): Uint8Array {
  const out = Buffer.alloc(values.reduce((sum, [, bytes]) => sum + bytes, 0));
  let at = 0;
  for (const [value, bytes] of values)
    at = bytes === 2 ? out.writeUInt16LE(value, at) : out.writeUInt32LE(value, at);
  return out;
}
