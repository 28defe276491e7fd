#!/bin/bash
# Three hosts on one switch lose and find each other. Runs inside `unshare --mount --net --pid`, so
# that nothing it makes outlives it.
# usage: recovery.sh DMC DIR SECONDS    leaves DIR/seconds (a line for each event) and DIR/hostN.log
# SECONDS: how long a link is down, and an agent asleep
set -eu
dmc=$1 dir=$2 away=$3

mount -t tmpfs none /run
mkdir /run/netns
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
for i in 1 2 3; do
  ip netns add "h$i"
  ip link add "port$i" type veth peer name eth0 netns "h$i"
  ip link set "port$i" master br0 up
  ip -n "h$i" link set lo up
  ip -n "h$i" link set eth0 up
  ip -n "h$i" addr add "10.92.0.$i/24" brd + dev eth0
done

on() { # on HOST WORDS...: the program on that host
  local host=$1
  shift
  nsenter "--net=/run/netns/h$host" "$dmc" --data-dir "$dir/data$host" "$@"
}

agents=()
for i in 1 2 3; do
  mkdir "$dir/data$i"
  DMC_LOG=dmc_agent=debug nsenter "--net=/run/netns/h$i" "$dmc" --data-dir "$dir/data$i" agent \
    --name "host$i" --slots 1 >"$dir/host$i.log" 2>&1 &
  agents+=($!)
done

made() { # made HOST: how often it was connected with somebody so far
  grep -cE ' connected( |$)' "$dir/host$1.log" || true
}

all_connected() {
  local i
  for i in 1 2 3; do
    [ "$(on "$i" peers --json 2>/dev/null | grep -oE '"state": *"connected"' | wc -l)" -ge 2 ] ||
      return 1
  done
}

until all_connected; do sleep 0.2; done

# What happened is over now: how long until host 2 has new connections with both, and all say so?
measure() { # measure NAME CONNECTIONS-BEFORE
  local from took
  from=$(date +%s%3N)
  until [ "$(made 2)" -ge $(($2 + 2)) ] && all_connected; do sleep 0.1; done
  took=$(($(date +%s%3N) - from))
  printf '%s %d.%03d\n' "$1" $((took / 1000)) $((took % 1000)) >>"$dir/seconds"
  sleep 3
}

before=$(made 2)
ip link set port2 down
sleep "$away"
ip link set port2 up
measure link_down_and_up "$before"

before=$(made 2)
ip -n h2 addr del 10.92.0.2/24 dev eth0
ip -n h2 addr add 10.92.0.22/24 brd + dev eth0
measure address_changed "$before"

before=$(made 2)
kill -STOP "${agents[1]}"
sleep "$away"
kill -CONT "${agents[1]}"
measure asleep "$before"

kill -TERM "${agents[@]}"
wait "${agents[@]}" || echo "an agent ended with an error" >&2
