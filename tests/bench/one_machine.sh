#!/bin/bash
# What does dmc cost over plain ffmpeg on one machine? Both convert the same film with the settings
# of the preset hevc, in turns; the medians of wall and CPU seconds and their ratios are printed.
# usage: [FILE=film] [RUNS=3] [DMC_BIN=dmc] tests/bench/one_machine.sh
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need ffmpeg ffprobe python3
dmc=$(dmc_binary)
film=$(film)

# The preset itself says what plain ffmpeg must do, so the two cannot drift apart.
mapfile -t settings < <("$dmc" --data-dir "$work/presets" presets show hevc --json | python3 -c '
import json, sys
preset = json.load(sys.stdin)
quality = preset.get("quality")
crf = preset.get("crf", {k.lower(): v for k, v in quality.items()}.get("crf") if isinstance(quality, dict) else None)
speed = preset.get("encoder_speed") or preset.get("speed")
if crf is None or speed is None:
    sys.exit("the preset does not say its crf and speed: " + json.dumps(preset))
words = ["-c:v", "libx265", "-crf", str(crf), "-preset", speed.lower()]
print("\n".join(words))')
echo "plain ffmpeg with: ${settings[*]}"

plain() {
  rm -f "$work/plain.mkv"
  timed plain ffmpeg -nostdin -v error -i "$film" -map 0 -c copy "${settings[@]}" \
    -x265-params log-level=none "$work/plain.mkv"
}
ours() { # no agent runs, so dmc is one itself for as long as it takes
  rm -rf "$work/dmc.mkv" "$work/data"
  timed dmc env DMC_DISCOVERY_PORT="$((20000 + $$ % 10000))" \
    "$dmc" --data-dir "$work/data" convert --preset hevc -o "$work/dmc.mkv" "$film"
}
for ((run = 1; run <= runs; run++)); do
  # The order changes, so that a machine that slows down harms both.
  if ((run % 2)); then plain; ours; else ours; plain; fi
  echo "run $run: plain $(tail -n1 "$work/plain.times"), dmc $(tail -n1 "$work/dmc.times") (wall cpu)"
done

frames() { ffprobe -v error -select_streams v:0 -count_packets -show_entries stream=nb_read_packets -of csv=p=0 "$1"; }
[ "$(frames "$work/plain.mkv")" = "$(frames "$work/dmc.mkv")" ] || { echo "the frame counts differ" >&2; exit 1; }
echo "median wall: plain $(median plain 1) s, dmc $(median dmc 1) s, ratio $(ratio "$(median dmc 1)" "$(median plain 1)")"
echo "median cpu:  plain $(median plain 2) s, dmc $(median dmc 2) s, ratio $(ratio "$(median dmc 2)" "$(median plain 2)")"
echo "size: plain $(stat -c %s "$work/plain.mkv"), dmc $(stat -c %s "$work/dmc.mkv"), ratio $(ratio "$(stat -c %s "$work/dmc.mkv")" "$(stat -c %s "$work/plain.mkv")")"
