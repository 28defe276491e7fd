#!/bin/bash
# Do two agents finish a film sooner than one, and one no later than plain ffmpeg? Each is pinned to
# a core of its own, so that two agents are two small machines. In turns the same film is converted
# by plain ffmpeg, by one agent, by two, and by one beside another that gets a tenth of its core.
# x265 undoes what taskset says (its thread pools set their own affinity), so a cpuset cgroup pins;
# where there is none, taskset does, and the result says so. As root, each agent has a network
# namespace of its own and they are joined by a bridge; else they share the loopback interface.
# usage: [FILE=film] [RUNS=3] [MODES="plain one two unequal"] [DMC_BIN=dmc] [LOGS=directory] tests/bench/two_agents.sh
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need ffmpeg ffprobe taskset
[ "$(nproc)" -ge 2 ] || { echo "this needs two cores" >&2; exit 1; }
dmc=$(dmc_binary)
film=$(film)
export DMC_DISCOVERY_PORT=$((20000 + $$ % 10000))

modes=${MODES:-plain one two unequal}
quotas=/sys/fs/cgroup/cpu
cpusets=/sys/fs/cgroup/cpuset
if mkdir -p "$cpusets/dmc-bench-$$-0" 2>/dev/null && [ -e "$cpusets/dmc-bench-$$-0/cpuset.cpus" ]; then
  pinned=cpuset
else
  pinned=taskset
  echo "no cpuset cgroup here: taskset pins, and x265 may undo it" >&2
fi
end_pens() {
  tidy
  rmdir "$cpusets"/dmc-bench-$$-* "$quotas"/dmc-bench-$$ 2>/dev/null || :
  for i in 0 1 b; do ip netns del "dmct$$$i" 2>/dev/null || :; done
}
trap end_pens EXIT

listen=127.0.0.1:0
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null; then
  listen=0.0.0.0:0
  ip netns add "dmct$$b"
  ip -n "dmct$$b" link add bridge type bridge
  ip -n "dmct$$b" link set bridge up
  for i in 0 1; do
    ip netns add "dmct$$$i"
    ip -n "dmct$$$i" link set lo up
    ip link add eth0 netns "dmct$$$i" type veth peer name "port$i" netns "dmct$$b"
    ip -n "dmct$$b" link set "port$i" master bridge up
    ip -n "dmct$$$i" addr add "10.78.0.$((i + 1))/24" dev eth0
    ip -n "dmct$$$i" link set eth0 up
    ip -n "dmct$$$i" route add 224.0.0.0/4 dev eth0
  done
else
  echo "not root: the agents share the loopback interface" >&2
fi
host() { # host N: the words that run something in the network of agent N
  [ "$listen" = 127.0.0.1:0 ] || echo "ip netns exec dmct$$$1"
}
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

a_tenth() { # a_tenth WORDS...: WORDS with a tenth of a core, in a process of their own
  mkdir -p "$quotas/dmc-bench-$$"
  echo 100000 >"$quotas/dmc-bench-$$/cpu.cfs_period_us"
  echo 10000 >"$quotas/dmc-bench-$$/cpu.cfs_quota_us"
  echo "$BASHPID" >"$quotas/dmc-bench-$$/tasks"
  "$@"
}

start() { # start N [SLOW]: N agents that see each other, the second one slow
  local n=$1 slow=${2:-} i less
  for ((i = 0; i < n; i++)); do
    rm -rf "$work/data$i"
    mkdir "$work/data$i"
    less=
    if [ "$i" = 1 ] && [ -n "$slow" ]; then less=a_tenth; fi
    $less on_core "$i" $(host "$i") "$dmc" --data-dir "$work/data$i" agent \
      --name "core-$i" --listen "$listen" --api 127.0.0.1:0 >"$work/agent$i.log" 2>&1 &
    agents+=($!)
  done
  see_each_other "$n"
  # An agent measures itself once in its life, not within the time that is taken.
  for ((i = 0; i < n; i++)); do
    for _ in $(seq 600); do [ -s "$work/data$i/speeds" ] && continue 2; sleep 0.1; done
    echo "agent $i does not measure itself" >&2
    exit 1
  done
  sleep 11 # the others hear of it with the next sign of life
}
convert() { # convert NAME N [SLOW]: the film by N agents; their own CPU time, not the command's
  local before after i
  start "$2" "${3:-}"
  rm -f "$work/$1.mkv"
  before=$(cpu_of "${agents[@]}")
  timed "$1" ask 0 convert --preset hevc -o "$work/$1.mkv" "$film"
  after=$(cpu_of "${agents[@]}")
  sed -i "\$s/ .*/ $(awk -v a="$after" -v b="$before" 'BEGIN { print a - b }')/" "$work/$1.times"
  ask 0 jobs list >"$work/$1.jobs"
  if [ -n "${LOGS:-}" ]; then
    ask 0 jobs show "$(awk 'NR == 2 { print $1 }' "$work/$1.jobs")" >"$LOGS/$1-$run.txt"
    for ((i = 0; i < $2; i++)); do cp "$work/agent$i.log" "$LOGS/$1-$run-agent-$i.log"; done
  fi
  end_agents
}
alone() { (on_core 0 "$@"); }
plain() { # the same settings, on one core
  rm -f "$work/plain.mkv"
  timed plain alone ffmpeg -nostdin -v error -i "$film" -map 0 -c copy -c:v libx265 -crf 28 \
    -preset medium -x265-params log-level=none "$work/plain.mkv"
}
run_mode() {
  case $1 in
    plain) plain ;;
    one) convert one 1 ;;
    two) convert two 2 ;;
    unequal) convert unequal 2 slow ;;
  esac
}
for ((run = 1; run <= runs; run++)); do
  # The order turns round, so that a machine that slows down harms all of them.
  for mode in $(if ((run % 2)); then echo "$modes"; else tac -s ' ' <<<"$modes " ; fi); do
    run_mode "$mode"
    echo "run $run: $mode $(tail -n1 "$work/$mode.times") (wall cpu)"
  done
done
has() { [ -s "$work/$1.times" ]; }
for mode in $modes; do echo "median $mode: wall $(median "$mode" 1) s, cpu $(median "$mode" 2) s"; done
if has one && has two; then echo "two agents against one: $(ratio "$(median one 1)" "$(median two 1)") times as fast"; fi
if has plain && has one; then
  echo "one agent against plain ffmpeg: wall $(ratio "$(median one 1)" "$(median plain 1)"), cpu $(ratio "$(median one 2)" "$(median plain 2)")"
fi
if has one && has unequal; then
  echo "beside a tenth: $(awk -v one="$(median one 1)" -v u="$(median unequal 1)" 'BEGIN { printf "%.3f", u / (one / 1.1) }') of the ideal makespan"
fi
