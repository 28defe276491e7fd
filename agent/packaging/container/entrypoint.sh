#!/bin/bash
# Runs dmc as PUID:PGID with UMASK, with its state and settings below /config.
set -euo pipefail
die() { echo "entrypoint: $*" >&2; exit 1; }

# The agent's own word on whether it is well; where it listens is in the file that it writes.
if [ "${1:-}" = --healthy ]; then
  address=$(sed -n 's/.*"api":"\([^"]*\)".*/\1/p' "${DMC_DATA_DIR:-/config/state}/agent.json")
  exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
  printf 'GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$address" >&3
  read -r _ status _ <&3
  [ "$status" = 200 ]
  exit
fi

umask "${UMASK:-022}"
# Settings are optional: a variable of each name works as well (DMC_SLOTS, DMC_API, …).
if [ -z "${DMC_CONFIG:-}" ] && [ -e /config/config.toml ]; then
  export DMC_CONFIG=/config/config.toml
fi
# `docker run dmc --slots 2` and `docker run dmc doctor` both mean what they seem to.
case ${1:-agent} in -*) set -- agent "$@" ;; esac

state=${DMC_DATA_DIR:-/config/state}
if [ "$(id -u)" != 0 ]; then
  # `user:` of the compose file, or a rootless engine.
  exec dmc "$@"
fi
user=${PUID:-1000} group=${PGID:-1000}
[[ $user =~ ^[0-9]+$ && $group =~ ^[0-9]+$ ]] || die "PUID and PGID are numbers"
mkdir -p "$state"
# Only the state is ours: nothing below /media ever gets another owner.
[ "$(stat -c %u:%g "$state")" = "$user:$group" ] || chown -R "$user:$group" "$state"
groups=$group
for card in /dev/dri/renderD*; do
  [ -e "$card" ] && groups+=,$(stat -c %g "$card")
done
exec setpriv --reuid "$user" --regid "$group" --groups "$groups" --inh-caps=-all --no-new-privs \
  dmc "$@"
