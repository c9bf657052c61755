#!/usr/bin/env bash
# Compares two folders of answers. `exact`: all must be equal. Else: roundings of two backends may part ways where two tokens
# are about equally probable, so each answer must begin alike, and some must be equal.
#
#   tests/gpu/compare.sh EXPECTED FOUND [exact]
set -eu
equal=0 differ=0 shortest=999
for file in "$1"/[1-5]-*; do
  name="$(basename "$file")"
  if cmp -s "$file" "$2/$name"; then
    equal=$((equal + 1))
  else
    differ=$((differ + 1))
    same="$(cmp "$file" "$2/$name" | grep -o '\(byte\|char\) [0-9]*' | grep -o '[0-9]*' || echo 0)"
    [ "${same:-0}" -lt "$shortest" ] && shortest="${same:-0}"
    echo "$name parts ways at byte $same"
  fi
done
echo "$equal answers equal, $differ not"
if [ "${3:-}" = exact ]; then [ $differ -eq 0 ]; else [ $equal -gt 0 ] && [ "$shortest" -gt 8 ]; fi
