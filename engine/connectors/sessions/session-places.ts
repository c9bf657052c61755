/** Where the content of a session is now. */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import type { SessionTools } from "./session-tools.ts";

export interface KeyPlaces {
  readonly key: BlockKey;
  readonly isOnDevice: boolean;
  readonly isInHost: boolean;
  readonly isOnDisk: boolean;
  readonly isAnywhere: boolean;
}

export function placesOf(
  keys: readonly BlockKey[],
  { disk, moves, isOnDevice }: Pick<SessionTools, "disk" | "moves" | "isOnDevice">,
): readonly KeyPlaces[] {
  const onDisk = keys.length === 0 ? [] : (disk?.has(keys) ?? []);
  return keys.map((key, i) => {
    const place = {
      isOnDevice: isOnDevice(key),
      isInHost: moves.isInHost(key),
      isOnDisk: onDisk[i] === true,
    };
    return { key, ...place, isAnywhere: place.isOnDevice || place.isInHost || place.isOnDisk };
  });
}

/** Leading blocks of which anything is left, in any group: a window or a state leaves gaps in its own. `places`: all groups of a block before the next one. */
export function numFoundBlocks(places: readonly KeyPlaces[], groups: number): number {
  let found = 0;
  while (places.slice(found * groups, (found + 1) * groups).some(({ isAnywhere }) => isAnywhere))
    found++;
  return found;
}
