#!/bin/bash
# Three hosts on one switch convert a film. Runs inside `unshare --mount --net --pid`, so that
# nothing it makes outlives it.
# usage: three_hosts.sh DMC SOURCE RESULT DIR    leaves DIR/jobs.json and DIR/hostN.log
set -eu
dmc=$1 source=$2 result=$3 dir=$4

# `ip netns` names namespaces by files below /run; those of the real system stay untouched.
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
  ip -n "h$i" addr add "10.91.0.$i/24" brd + dev eth0
done

on() { # on HOST WORDS...: the program on that host
  local host=$1
  shift
  nsenter "--net=/run/netns/h$host" "$dmc" --data-dir "$dir/data$host" "$@"
}

agents=()
for i in 1 2 3; do
  mkdir "$dir/data$i"
  nsenter "--net=/run/netns/h$i" "$dmc" --data-dir "$dir/data$i" agent --name "host$i" \
    >"$dir/host$i.log" 2>&1 &
  agents+=($!)
done

for i in 1 2 3; do
  for _ in $(seq 300); do
    seen=$(on "$i" peers --json 2>/dev/null | grep -oE '"state": *"connected"' | wc -l)
    [ "$seen" -ge 2 ] && break
    sleep 0.2
  done
  [ "$seen" -ge 2 ] || { echo "host$i sees only $seen others" >&2; exit 1; }
done

on 1 convert --json --preset lossless --segment-seconds 4 -o "$result" "$source"
on 1 jobs list --json >"$dir/jobs.json"
kill -TERM "${agents[@]}"
wait "${agents[@]}" || echo "an agent ended with an error" >&2
