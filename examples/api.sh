#!/bin/bash
# The item API with curl, against an agent that runs: a file is sent, converted, fetched and deleted,
# and every answer is checked.
# usage: examples/api.sh FILE [PRESET]
#   DMC_DATA=DIR   the agent's data directory, where its address and token are (default: yours)
set -eu
file=$(realpath -- "$1")
preset=${2:-h264}
data=${DMC_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/dmc}
client=example-$$
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }
fail() { echo "$*: $(cat "$work/body")" >&2; exit 1; }
url=http://$(field "$data/agent.json" api)/api/v1
# In a file of its own: what is said on a command line, every user of the machine can read.
(umask 077 && printf 'header = "Authorization: Bearer %s"\n' "$(cat "$data/api.token")" >"$work/token")

# call STATUS WORDS...: the answer must have that status; its body is then in $work/body.
call() {
  local want=$1 status
  shift
  status=$(curl -sS --config "$work/token" -o "$work/body" -w '%{http_code}' "$@") || fail "curl failed"
  [ "$status" = "$want" ] || fail "status $status instead of $want for $*"
}
is() { # is FIELD VALUE: of the answer
  [ "$(field "$work/body" "$1")" = "$2" ] || fail "$1 should be $2"
}

echo "create: POST /item with the file"
call 201 -F client_id="$client" -F conversion_type="$preset" -F sha512=true \
  -F "file=@\"$file\";filename=\"a film.${file##*.}\"" "$url/item"
item=$(field "$work/body" item_id)
is client_id "$client"
is file_name "a film.${file##*.}"
is file_size "$(stat -c %s "$file")"
is conversion_type "$preset"
is sha512_checksum "$(sha512sum <"$file" | cut -d' ' -f1)"

echo "list: GET /item/$client"
call 200 "$url/item/$client"
python3 -c 'import json, sys; [one] = json.load(open(sys.argv[1])); assert one["item_id"] == sys.argv[2]' \
  "$work/body" "$item" || fail "the list does not hold the item"

echo "wait: GET /item/$client/$item"
for _ in $(seq 600); do
  call 200 "$url/item/$client/$item"
  case $(field "$work/body" status) in
    to_do | in_progress) sleep 1 ;;
    *) break ;;
  esac
done
is status finished_successful

echo "fetch: GET /item/$client/$item/file"
call 200 "$url/item/$client/$item/file"
mv "$work/body" "$work/result"
call 206 -r 4-103 "$url/item/$client/$item/file"
cmp "$work/body" <(tail -c +5 "$work/result" | head -c 100) || fail "the range holds other bytes"
ffprobe -v error -show_entries stream=codec_name -of csv=p=0 "$work/result" || fail "it is no film"

echo "delete: DELETE /item/$client/$item"
call 204 -X DELETE "$url/item/$client/$item"
call 404 "$url/item/$client/$item"
call 404 "$url/item/$client/$item/file"
call 200 "$url/item/$client"
[ "$(cat "$work/body")" = "[]" ] || fail "the client still has items"

echo "refused: no token, a wrong preset, a path in a name"
status=$(curl -sS -o /dev/null -w '%{http_code}' "$url/item/$client")
[ "$status" = 401 ] || fail "status $status without a token"
call 422 -F client_id="$client" -F conversion_type=betamax -F "file=@\"$file\"" "$url/item"
call 422 -F client_id="$client" -F conversion_type="$preset" -F "file=@\"$file\";filename=\"../x.mkv\"" "$url/item"
call 200 "$url/item/$client"
[ "$(cat "$work/body")" = "[]" ] || fail "something was left behind"
echo "every answer was right"
