#!/usr/bin/env bash
# Pictures a second: dmc against a loop of one encoder call a picture, on this machine.
#   tests/bench/images/run.sh [preset]     COUNT=200 SIZE=1024x768 RUNS=3 DMC_BIN=…
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
preset=${1:-image-webp}
count=${COUNT:-200}
size=${SIZE:-1024x768}
need ffmpeg
dmc=$(dmc_binary)

mkdir "$work/in"
# Photographs have noise: flat pictures would measure starting programs only.
ffmpeg -nostdin -v error -f lavfi \
  -i "testsrc2=size=$size:rate=25,noise=alls=12:allf=t:all_seed=7" \
  -frames:v "$count" -q:v 3 "$work/in/p%04d.jpg"

seconds() { # the time of a command, in seconds
  local from to
  from=$(date +%s%N)
  "$@" >"$work/said" 2>&1 || { tail -5 "$work/said" >&2; return 1; }
  to=$(date +%s%N)
  ratio $((to - from)) 1000000000
}
loop() { # one ffmpeg a picture
  local file
  for file in "$work"/in/*.jpg; do
    ffmpeg -nostdin -v error -y -i "$file" -c:v libwebp -quality 82 "$work/loop/$(basename "$file" .jpg).webp"
  done
}
cwebp_loop() { # one cwebp a picture
  local file
  for file in "$work"/in/*.jpg; do
    cwebp -quiet -q 82 -metadata all "$file" -o "$work/loop/$(basename "$file" .jpg).webp"
  done
}
by_dmc() {
  rm -rf "$work/out" && mkdir "$work/out"
  "$dmc" --data-dir "$work/data" convert --preset "$preset" --output-dir "$work/out" -- "$work"/in/*.jpg
}

mkdir "$work/loop" "$work/data"
DMC_CALIBRATE=false "$dmc" --data-dir "$work/data" agent --no-discovery \
  --listen 127.0.0.1:0 --api 127.0.0.1:0 >"$work/log" 2>&1 &
agents+=($!)
until "$dmc" --data-dir "$work/data" peers >/dev/null 2>&1; do sleep 0.2; done

for run in $(seq "$runs"); do
  line="run $run: $count of $size:"
  took=$(seconds loop)
  line+=" ffmpeg loop $(ratio "$count" "$took")/s,"
  if command -v cwebp >/dev/null; then
    took=$(seconds cwebp_loop)
    line+=" cwebp loop $(ratio "$count" "$took")/s,"
  fi
  took=$(seconds by_dmc)
  [ "$(find "$work/out" -type f | wc -l)" = "$count" ] || { echo "pictures are missing" >&2; exit 1; }
  echo "$line dmc $(ratio "$count" "$took")/s"
done
