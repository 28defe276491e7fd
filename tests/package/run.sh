#!/bin/bash
# Installs the packages on two Debian machines that are booted for it, as a person would: the
# service starts, they find each other, a film is converted, upgraded, removed, purged; then the
# tarball. Needs root, debootstrap, systemd-nspawn and, the first time, Debian's packages (a few
# minutes); says so and passes where they are missing.
#   DMC_BIN=FILE   the program to package; without it a release build
#   DMC_TREE=DIR   the fresh Debian (kept for the next time) [target/package-test/debian]
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
target=${CARGO_TARGET_DIR:-$repo/target}
tree=${DMC_TREE:-$target/package-test/debian}
skip() { echo "skipped: $*" >&2; exit 0; }

[ "$(id -u)" = 0 ] || skip "this needs root"
for tool in debootstrap systemd-nspawn ip nsenter ffmpeg dpkg-deb; do
  command -v "$tool" >/dev/null || skip "there is no $tool (packages debootstrap, systemd-container)"
done

work=$(mktemp -d /tmp/dmc-package-test.XXXXXX)
id=dp$$
declare -A leader=() boot=()
hosts=(nas desk)

clean() {
  local host
  for host in "${hosts[@]}"; do
    [ -z "${boot[$host]:-}" ] || kill -KILL "${leader[$host]:-${boot[$host]}}" 2>/dev/null || true
    [ -z "${boot[$host]:-}" ] || wait "${boot[$host]}" 2>/dev/null || true
    umount -l "$work/$host/root" 2>/dev/null || true
    ip netns del "$id-$host" 2>/dev/null || true
  done
  ip netns del "$id-lan" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
step() { echo "== $*"; }
fail() {
  echo "FAILED: $*" >&2
  for host in "${hosts[@]}"; do
    echo "-- journal of $host" >&2
    [ -z "${leader[$host]:-}" ] || on "$host" journalctl -u dmc --no-pager -n 30 >&2 || true
  done
  exit 1
}
# until SECONDS WHAT COMMAND...
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "$what"
    sleep 0.2
  done
}
on() {
  local host=$1
  shift
  nsenter -t "${leader[$host]}" -m -u -i -n -p -r -w -- "$@"
}
as_ann() { on "$1" runuser -l ann -c "$2"; }

make_tree() {
  step "a fresh Debian"
  local mirror
  mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\(http[^ ]*\).*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -1)
  mkdir -p "$(dirname "$tree")"
  rm -rf "$tree.new"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,adduser,iproute2,procps \
    bookworm "$tree.new" "${mirror:-http://deb.debian.org/debian}" >"$work/debootstrap.log" 2>&1 ||
    { tail -5 "$work/debootstrap.log" >&2; skip "debootstrap cannot get Debian's packages"; }
  # What the package depends on: the machines of this test have no way out.
  chroot "$tree.new" sh -c 'apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ffmpeg &&
    apt-get clean' >"$work/ffmpeg.log" 2>&1 || skip "ffmpeg cannot be installed"
  mv "$tree.new" "$tree"
}

boot_host() {
  local host=$1 number=$2 at=$work/$1
  mkdir -p "$at"/{upper,work,root}
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$at/upper,workdir=$at/work" "$at/root"
  rm -f "$at/root/etc/machine-id"
  echo "$host" >"$at/root/etc/hostname"
  ip netns add "$id-$host"
  ip -n "$id-lan" link add name "v$number" type veth peer name eth0 netns "$id-$host"
  ip -n "$id-lan" link set "v$number" master lan0 up
  ip -n "$id-$host" address add "10.77.0.$number/24" dev eth0
  ip -n "$id-$host" link set eth0 up
  ip -n "$id-$host" link set lo up
  systemd-nspawn --quiet --boot --directory "$at/root" --hostname "$host" --machine "$id-$host" \
    --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
    --network-namespace-path "/run/netns/$id-$host" --register=no --keep-unit \
    --bind-ro "$work/packages:/packages" --console=pipe </dev/null >"$at/console" 2>&1 &
  boot[$host]=$!
  until_true 20 "$host boots" pgrep -P "${boot[$host]}"
  leader[$host]=$(pgrep -P "${boot[$host]}" | head -1)
  until_true 60 "$host is up" on "$host" systemctl is-active multi-user.target
}

is_active() { on "$1" systemctl is-active --quiet dmc; }
sees_other() { on "$1" dmc peers --json | grep -q '"state":"connected"'; }
property() { on "$1" systemctl show -P "$2" dmc; }
install_deb() {
  on "$1" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "$2" >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; fail "apt installs $2"; }
}
# What there is of dmc beside what belongs to this test.
leftovers() {
  on "$1" find / -xdev \( -path /proc -o -path /sys -o -path /run/systemd -o -path /srv/media \
    -o -path /packages -o -path /home -o -path /tmp -o -path '/var/log/journal' \
    -o -path /var/cache/apt \) -prune -o -iname '*dmc*' -print | grep -vE '/(debian|apt)/|[xX]dmcp' || true
}

mkdir -p "$work/packages"
[ -e "$tree/usr/bin/ffmpeg" ] || make_tree

step "packages"
export DMC_PACKAGE_LEVEL=1
first=$("$repo/agent/packaging/package.sh" deb "$work/packages")
second=$(DMC_PACKAGE_VERSION=99.0 "$repo/agent/packaging/package.sh" deb "$work/packages")
tarball=$("$repo/agent/packaging/package.sh" tarball "$work/packages")
ls -l "$work/packages"

step "two machines boot"
ip netns add "$id-lan"
ip -n "$id-lan" link add name lan0 type bridge
ip -n "$id-lan" link set lan0 up
boot_host nas 1
boot_host desk 2

step "apt install ./dmc.deb"
started=$SECONDS
for host in nas desk; do
  install_deb "$host" "/packages/$(basename "$first")"
  is_active "$host" || fail "the service of $host runs after the installation"
  on "$host" useradd --create-home --groups dmc ann
done
echo "installed on both after $((SECONDS - started)) s"
[ "$(property nas User)" = dmc ] || fail "it runs as dmc"
[ "$(property nas Type)" = notify ] || fail "it says when it is ready"
on nas journalctl -u dmc -o cat --no-pager | grep -q 'ffmpeg is confined: ' ||
  fail "ffmpeg is confined inside the service"
on nas journalctl -u dmc -p info -o cat --no-pager | grep -q 'agent started' ||
  fail "the journal knows levels"
if on nas journalctl -u dmc -o cat --no-pager | grep -E '^<[0-9]>|INFO'; then
  fail "lines in the journal have no level in their text"
fi
if on nas journalctl -u dmc -p warning -o cat --no-pager | grep -q 'agent started'; then
  fail "ordinary lines are no warnings"
fi
on nas systemd-analyze verify --man=no /usr/lib/systemd/system/dmc.service 2>&1 | tee "$work/verify"
if grep -q dmc.service "$work/verify"; then fail "the unit is right"; fi
on nas systemd-analyze security dmc --no-pager | tail -1

step "they find each other"
until_true 60 "nas sees desk" sees_other nas
until_true 60 "desk sees nas" sees_other desk

step "a film is converted by both"
on nas install -d -o dmc -g dmc -m 2775 /srv/media
ffmpeg -v error -f lavfi -i testsrc2=size=640x360:rate=25:duration=60 -g 50 -c:v libx264 \
  -preset ultrafast "$work/packages/film.mp4"
on nas install -o ann -m 644 /packages/film.mp4 '/srv/media/ein Film 🎬.mp4'
as_ann nas "dmc convert --preset h264 --encoder-speed ultrafast --segment-seconds 10 --json \
  '/srv/media/ein Film 🎬.mp4'" >"$work/convert" || { tail -1 "$work/convert"; fail "convert"; }
tail -1 "$work/convert" | grep -q '"status":"finished_successful"' || fail "the job is finished"
on nas test -s '/srv/media/ein Film 🎬.h264.mkv' || fail "the result is there"
for host in nas desk; do
  tail -1 "$work/convert" | grep -oE '"workers":.*' | grep -q "\"name\":\"$host\"" ||
    fail "$host has encoded"
done

step "a folder of a home, when it is given to the service"
on nas install -d -o ann -g dmc -m 2770 '/home/ann/My Videos'
on nas install -o ann -g dmc -m 640 /packages/film.mp4 '/home/ann/My Videos/a.mp4'
if as_ann nas "dmc convert '/home/ann/My Videos/a.mp4'" 2>"$work/refused"; then
  fail "homes are hidden from the service"
fi
grep -q "dmc service install --media '/home/ann/My Videos'" "$work/refused" ||
  { cat "$work/refused"; fail "the refusal says how"; }
on nas dmc service install --media '/home/ann/My Videos'
as_ann nas "dmc convert --preset h264 --encoder-speed ultrafast '/home/ann/My Videos/a.mp4'"
on nas test -s '/home/ann/My Videos/a.h264.mkv' || fail "the result is in the home"
on nas dmc service status

step "a hang and a kill are noticed"
on nas sh -c 'mkdir -p /run/systemd/system/dmc.service.d
  printf "[Service]\nWatchdogSec=4\nTimeoutAbortSec=2\nRestartSec=1\n" \
    >/run/systemd/system/dmc.service.d/test.conf; systemctl daemon-reload; systemctl restart dmc'
restarts() { [ "$(property nas NRestarts)" -ge "$1" ] && is_active nas; }
on nas kill -STOP "$(property nas MainPID)"
until_true 40 "an agent that hangs is started again" restarts 1
on nas kill -KILL "$(property nas MainPID)"
until_true 40 "an agent that was killed is started again" restarts 2
on nas sh -c 'rm -r /run/systemd/system/dmc.service.d; systemctl daemon-reload'

step "upgrade"
on nas sh -c 'echo "slots = 1" >>/etc/dmc/config.toml'
install_deb nas "/packages/$(basename "$second")"
is_active nas || fail "the service runs after the upgrade"
on nas grep -q 'slots = 1' /etc/dmc/config.toml || fail "a person's settings stay"
on nas dmc jobs | grep -q finished_successful || fail "the jobs are still known"
until_true 60 "the versions work together" sees_other nas
on nas dmc peers --json | grep -q '"state":"connected"'

step "remove"
on nas apt-get remove -y -qq dmc >/dev/null 2>&1
if on nas systemctl is-active --quiet dmc; then fail "it does not run any more"; fi
if on nas test -e /usr/bin/dmc; then fail "the program is gone"; fi
on nas test -d /var/lib/dmc/db -o -d /var/lib/dmc || fail "the state stays"
on nas test -e /etc/dmc/config.toml || fail "the settings stay"

step "purge"
on nas apt-get purge -y -qq dmc >/dev/null 2>&1
left=$(leftovers nas)
[ -z "$left" ] || { echo "$left"; fail "nothing is left"; }
on nas id dmc || fail "the user stays, as documented"
on nas test -s '/srv/media/ein Film 🎬.h264.mkv' || fail "media stay"
on nas test -s '/srv/media/ein Film 🎬.mp4' || fail "sources stay"

step "the tarball"
on nas tar -C /opt -xf "/packages/$(basename "$tarball")"
on nas sh -c 'cd /opt/dmc-* && ./install.sh'
is_active nas || fail "install.sh starts the service"
until_true 60 "the tarball's agent is there" on nas /usr/local/bin/dmc status
on nas sh /usr/local/lib/dmc/uninstall.sh
on nas test -d /var/lib/dmc || fail "the state stays"
on nas sh -c 'cd /opt/dmc-* && ./install.sh && ./uninstall.sh --purge && rm -r /opt/dmc-*'
left=$(leftovers nas)
[ -z "$left" ] || { echo "$left"; fail "nothing is left of the tarball"; }

echo "1 passed, 0 failed"
