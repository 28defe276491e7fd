#!/bin/bash
# Do two agents finish a film sooner than one? Each agent is pinned to a core of its own, so that
# two of them are two small machines; one agent and two agents convert the same film in turns.
# x265 undoes what taskset says (its thread pools set their own affinity), so a cpuset cgroup pins;
# where there is none, taskset does, and the result says so.
# usage: [FILE=film] [RUNS=3] [DMC_BIN=dmc] tests/bench/two_agents.sh
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need ffmpeg ffprobe taskset
[ "$(nproc)" -ge 2 ] || { echo "this needs two cores" >&2; exit 1; }
dmc=$(dmc_binary)
film=$(film)
export DMC_DISCOVERY_PORT=$((20000 + $$ % 10000))

cpusets=/sys/fs/cgroup/cpuset
if mkdir -p "$cpusets/dmc-bench-$$-0" 2>/dev/null && [ -e "$cpusets/dmc-bench-$$-0/cpuset.cpus" ]; then
  pinned=cpuset
  trap 'tidy; rmdir "$cpusets"/dmc-bench-$$-* 2>/dev/null' EXIT
else
  pinned=taskset
  echo "no cpuset cgroup here: taskset pins, and x265 may undo it" >&2
fi
on_core() { # on_core N WORDS...: becomes WORDS, pinned to core N
  local group="$cpusets/dmc-bench-$$-$1" core=$1
  shift
  if [ "$pinned" = taskset ]; then exec taskset -c "$core" "$@"; fi
  mkdir -p "$group"
  echo "$core" >"$group/cpuset.cpus"
  cat "$cpusets/cpuset.mems" >"$group/cpuset.mems"
  echo "$BASHPID" >"$group/tasks"
  exec "$@"
}

start() { # start N: N agents that see each other
  local n=$1 i
  for ((i = 0; i < n; i++)); do
    rm -rf "$work/data$i"
    mkdir "$work/data$i"
    on_core "$i" "$dmc" --data-dir "$work/data$i" agent --name "core-$i" \
      --listen 127.0.0.1:0 --api 127.0.0.1:0 >"$work/agent$i.log" 2>&1 &
    agents+=($!)
  done
  see_each_other "$n"
}
convert() { # convert NAME N: the film by N agents; their own CPU time, not the command's
  local before after
  start "$2"
  rm -f "$work/$1.mkv"
  before=$(cpu_of "${agents[@]}")
  timed "$1" "$dmc" --data-dir "$work/data0" convert --preset hevc -o "$work/$1.mkv" "$film"
  after=$(cpu_of "${agents[@]}")
  sed -i "\$s/ .*/ $(awk -v a="$after" -v b="$before" 'BEGIN { print a - b }')/" "$work/$1.times"
  "$dmc" --data-dir "$work/data0" jobs list >"$work/$1.jobs"
  end_agents
}
for ((run = 1; run <= runs; run++)); do
  if ((run % 2)); then convert one 1; convert two 2; else convert two 2; convert one 1; fi
  echo "run $run: one $(tail -n1 "$work/one.times"), two $(tail -n1 "$work/two.times") (wall cpu)"
done
cat "$work/two.jobs"
echo "median wall: one $(median one 1) s, two $(median two 1) s, speed-up $(ratio "$(median one 1)" "$(median two 1)")"
echo "median cpu:  one $(median one 2) s, two $(median two 2) s, ratio $(ratio "$(median two 2)" "$(median one 2)")"
