#!/bin/bash
# Builds the container image and runs it, as far as that goes without a registry of images: its two
# base images are made from a fresh Debian (DMC_TREE, that of run.sh), and the program is DMC_BIN
# instead of being compiled in it. Needs root and buildah; says so and passes where they are missing.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
tree=${DMC_TREE:-$target/package-test/debian}
program=${DMC_BIN:-$target/release/dmc}
skip() { echo "skipped: $*" >&2; exit 0; }
fail() { echo "FAILED: $*" >&2; [ ! -e "$work/log" ] || tail -20 "$work/log" >&2; exit 1; }

[ "$(id -u)" = 0 ] || skip "this needs root"
command -v buildah >/dev/null || skip "there is no buildah"
[ -e "$tree/usr/bin/ffmpeg" ] || skip "there is no $tree: run.sh makes it"
[ -x "$program" ] || skip "there is no $program: name one in DMC_BIN"

work=$(mktemp -d /tmp/dmc-container-test.XXXXXX)
agent=
clean() {
  [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
  b rm --all >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT
b() { buildah --root "$work/root" --runroot "$work/run" --storage-driver vfs "$@"; }

image() {
  local made
  made=$(b from "$1")
  shift
  while [ "$#" -gt 1 ]; do
    b add --quiet "$made" "$1" "$2" >/dev/null
    shift 2
  done
  b commit --quiet "$made" "$1" >/dev/null
  b rm "$made" >/dev/null
}

echo "== images"
image scratch "$tree" / localhost/debian
# Stands for cargo: the program is there already.
printf '#!/bin/sh\nmkdir -p target/release && cp /prebuilt target/release/dmc\n' >"$work/cargo"
chmod 755 "$work/cargo"
image localhost/debian "$work/cargo" /usr/bin/cargo "$program" /prebuilt localhost/rust
b bud --isolation chroot --layers=false --format docker \
  --ignorefile "$repo/agent/packaging/container/Dockerfile.dockerignore" \
  --build-arg RUST=localhost/rust --build-arg DEBIAN=localhost/debian \
  -f "$repo/agent/packaging/container/Dockerfile" -t localhost/dmc "$repo" >"$work/log" 2>&1 ||
  fail "the image is built"

echo "== the agent runs as PUID:PGID"
mkdir "$work/config" "$work/films"
chown 1234:1234 "$work/films"
ffmpeg -v error -f lavfi -i testsrc2=s=320x180:d=4 -c:v libx264 -preset ultrafast "$work/films/a b.mp4"
container=$(b from localhost/dmc)
# Not at /config and /media: here, volumes of the image hide what is mounted there.
in_it() {
  b run --isolation chroot -v "$work/config:/cfg" -v "$work/films:/films" -e DMC_DATA_DIR=/cfg/state \
    -e PUID=1234 -e PGID=1234 -e UMASK=027 "$container" -- entrypoint.sh "$@"
}
in_it --no-discovery --api 127.0.0.1:0 --listen 127.0.0.1:0 >"$work/log" 2>&1 &
agent=$!
end=$((SECONDS + 60))
until in_it --healthy 2>/dev/null; do
  [ "$SECONDS" -lt "$end" ] || fail "it gets well"
  sleep 0.3
done
pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$work/config/state/agent.json")
[ "$(stat -c %u:%g "/proc/$pid")" = 1234:1234 ] || fail "it runs as PUID:PGID"
grep -q 'ffmpeg is confined: ' "$work/log" || fail "ffmpeg is confined"
in_it convert --preset h264 --encoder-speed ultrafast '/films/a b.mp4' || fail "a film is converted"
[ "$(stat -c %u:%g "$work/films/a b.h264.mkv")" = 1234:1234 ] || fail "the result belongs to PUID"
kill -TERM "$pid"
wait "$agent" || fail "it stops when it is told"
agent=
if in_it --healthy 2>/dev/null; then fail "one that has stopped is not healthy"; fi
echo "1 passed, 0 failed"
