#!/usr/bin/env bash
# Serves a model on a device, asks it for greedy answers, one at a time and several at once, and for what it makes of given texts, and
# writes all to a folder (`compare.ts` compares two).
#
#   tests/gpu/serve.sh KVENGINE MODEL DEVICE ANSWERS [more flags of serve]
set -eu
kvengine="$1" model="$2" device="$3" answers="$4"
shift 4
mkdir -p "$answers"
log="$answers/server.log"

"$kvengine" serve "$model" --device "$device" --port 0 --served-model-name m "$@" >"$log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true' EXIT

port=""
for _ in $(seq 600); do
  port="$(sed -n 's|.*on http://[^ ]*:\([0-9]*\) .*|\1|p' "$log" | head -1)"
  if [ -n "$port" ]; then break; fi
  if ! kill -0 $server 2>/dev/null; then cat "$log"; exit 1; fi
  sleep 0.1
done
[ -n "$port" ] || { echo "the server did not start"; cat "$log"; exit 1; }
grep "serves" "$log"

http() { # METHOD PATH [BODY]: the answer's body; by bash alone, for machines without curl
  local body="${3:-}"
  exec 3<>"/dev/tcp/127.0.0.1/$port"
  printf '%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s' \
    "$1" "$2" "${#body}" "$body" >&3
  sed '1,/^\r$/d' <&3
  exec 3<&-
}

ask() { # FILE PROMPT TOKENS
  http POST /v1/completions "{\"model\":\"m\",\"prompt\":\"$2\",\"max_tokens\":$3,\"temperature\":0}" >"$answers/$1.json"
  sed -n 's/.*"text":"\(\([^"\\]\|\\.\)*\)".*/\1/p' "$answers/$1.json" >"$answers/$1"
  [ -s "$answers/$1" ] || { echo "no answer: $(cat "$answers/$1.json")"; return 1; }
  rm "$answers/$1.json"
}

score() { # FILE TEXT: the log-probabilities of its tokens
  http POST /v1/completions "{\"model\":\"m\",\"prompt\":\"$2\",\"max_tokens\":0,\"temperature\":0,\"echo\":true,\"logprobs\":2}" >"$answers/$1"
}

same() { # FILE FILE WHAT
  cmp "$answers/$1" "$answers/$2" || { echo "$3"; exit 1; }
}

story="The lighthouse keeper counted the ships that passed in the night and wrote their names into a book. "
long="$(for _ in $(seq 40); do printf '%s' "$story"; done)"

http GET /health
echo
ask 1-short "Once upon a time" 64
ask 2-long "$long Then" 48
ask 3-again "$long Then" 48
same 2-long 3-again "the same prompt was answered in two ways"
asking=()
for i in $(seq 8); do
  ask "4-many-$i" "$story Number $i said" 64 &
  asking+=($!)
done
for one in "${asking[@]}"; do wait "$one"; done
for i in $(seq 8); do
  ask "5-alone-$i" "$story Number $i said" 64
  same "4-many-$i" "5-alone-$i" "answer $i depends on who else is there"
done
score 6-scored-story "$long"
score 6-scored-prose "Water boils at a lower temperature on a mountain than at the sea, because the air above it weighs less. Cooks know this: beans that are soft in an hour at the coast take two in the hills, and bread rises faster than anybody likes."
score 6-scored-list "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday. The months are January, February, March, April, May, June, July, August, September, October, November and December."
http GET /metrics >"$answers/metrics"
kill $server
wait $server || true
trap - EXIT
if grep -iE "error|warn" "$log"; then exit 1; fi
echo "short: $(cut -c1-70 "$answers/1-short")"
