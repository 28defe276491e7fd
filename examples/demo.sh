#!/bin/bash
# Three agents on this machine find each other and convert a film together; then the proof that
# every frame arrived. Everything it starts ends with it; only the converted film stays.
# usage: [FILE=film] [OUT=result.mkv] [PRESET=hevc] examples/demo.sh
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preset=${PRESET:-hevc}
work=$(mktemp -d "${TMPDIR:-/tmp}/dmc-demo.XXXXXX")
agents=()

tidy() {
  if [ ${#agents[@]} -gt 0 ]; then
    kill -TERM "${agents[@]}" 2>/dev/null || :
    for _ in $(seq 100); do
      kill -0 "${agents[@]}" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "${agents[@]}" 2>/dev/null || :
    wait "${agents[@]}" 2>/dev/null || :
  fi
  rm -rf "$work"
}
trap tidy EXIT
trap 'echo; echo "stopped"; exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }

install_ffmpeg() {
  command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null && return
  local sudo=
  if ! command -v apt-get >/dev/null; then
    echo "ffmpeg is missing and there is no apt-get here: install ffmpeg, then run this again" >&2
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null || { echo "ffmpeg is missing: run 'apt-get install ffmpeg' as root" >&2; exit 1; }
  fi
  say "installing ffmpeg"
  $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq ffmpeg
}

build() {
  if [ -n "${DMC_BIN:-}" ]; then
    dmc=$DMC_BIN
    return
  fi
  say "building (the first time takes a few minutes)"
  (cd "$here" && cargo build --release -p dmc-agent --bin dmc)
  dmc=${CARGO_TARGET_DIR:-$here/target}/release/dmc
}

take_film() {
  if [ -n "${FILE:-}" ]; then
    film=$(realpath -e -- "$FILE")
    return
  fi
  say "making a film of 60 s"
  film=$work/fractal.mp4
  ffmpeg -nostdin -v error \
    -f lavfi -i "mandelbrot=s=640x360:r=25:maxiter=400:end_scale=0.0005,noise=alls=8:allf=t,format=yuv420p" \
    -f lavfi -i "sine=220:r=48000:b=4" -t 60 -c:v libx264 -preset veryfast -crf 20 -g 50 -c:a aac "$film"
}

result_name() { # demo-NAME.PRESET.mkv in this directory, numbered if there is one already
  local name base number=
  base=$(basename -- "$film")
  name=demo-${base%.*}.$preset
  while [ -e "$PWD/$name${number:+-$number}.mkv" ]; do number=$((${number:-1} + 1)); done
  echo "$PWD/$name${number:+-$number}.mkv"
}

start_agents() {
  say "starting three agents"
  local i
  # A port of its own keeps the demo from joining agents that already work here.
  export DMC_DISCOVERY_PORT=$((20000 + $$ % 10000))
  for i in 1 2 3; do
    mkdir "$work/agent$i"
    # In a session of its own: Ctrl-C is for the conversion, and `tidy` ends the agents.
    setsid "$dmc" --data-dir "$work/agent$i" agent --name "agent-$i" \
      --listen 127.0.0.1:0 --api 127.0.0.1:0 >"$work/agent$i.log" 2>&1 &
    agents+=($!)
  done
  for i in 1 2 3; do meet "$i"; done
  "$dmc" --data-dir "$work/agent1" peers
}

meet() {
  local seen
  for _ in $(seq 300); do
    seen=$("$dmc" --data-dir "$work/agent$1" peers --json 2>/dev/null | grep -oE '"state": *"connected"' | wc -l) || seen=0
    [ "$seen" -ge 2 ] && return
    sleep 0.1
  done
  echo "agent-$1 does not see the two others; its log ends with:" >&2
  tail -n 20 "$work/agent$1.log" >&2
  exit 1
}

times() { # the time of every frame, in milliseconds after the first, in the order they are shown
  ffprobe -v error -select_streams V:0 -show_entries packet=pts_time,flags -of csv=p=0 "file:$1" |
    awk -F, '$1 != "N/A" && $2 !~ /D/ { print $1 }' | sort -n |
    awk 'NR == 1 { first = $1 } { printf "%.0f\n", ($1 - first) * 1000 }'
}

prove() {
  say "the proof"
  times "$film" >"$work/source.times"
  times "$out" >"$work/result.times"
  echo "frames: $(wc -l <"$work/source.times") in the source, $(wc -l <"$work/result.times") in the result"
  # Matroska counts whole milliseconds, so two clocks may round one frame to neighbours.
  paste "$work/source.times" "$work/result.times" | awk '
    NF != 2 || $1 - $2 > 1 || $2 - $1 > 1 { wrong++ }
    END { if (wrong) { print wrong " frames are missing, extra or moved"; exit 1 }
          print "every frame is there, at its time (within 1 ms)" }'
}

install_ffmpeg
build
take_film
out=${OUT:-$(result_name)}
start_agents
say "converting $(basename -- "$film") with the preset $preset"
# In the background, because bash answers a signal at once only while it waits for one of those.
"$dmc" --data-dir "$work/agent1" convert --preset "$preset" -o "$out" -- "$film" &
agents+=($!)
wait "$!"
unset 'agents[-1]'
say "who did what"
job=$("$dmc" --data-dir "$work/agent1" jobs list --json | grep -oE '"id": *"[^"]+"' | head -n 1 | cut -d'"' -f4)
"$dmc" --data-dir "$work/agent1" jobs show "$job"
prove
say "the result: $out"
