#!/bin/sh
# Installs dmc from this directory, and starts its agent as a service.
#   sudo ./install.sh [--media DIR]...    for the machine, below /usr/local
#   ./install.sh --user                   for you alone, below ~/.local, without root
#   --no-service                          only the files
# ./uninstall.sh, also in lib/dmc, takes it away again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
user='' service=yes prefix=''
die() { echo "install.sh: $*" >&2; exit 1; }

media=0
for word; do
  # The words for `dmc service install` go round to the end of the list.
  shift
  if [ "$media" = 1 ]; then
    media=0
    set -- "$@" "$word"
    continue
  fi
  case $word in
    --user) user=--user; set -- "$@" --user ;;
    --no-service) service= ;;
    --media) media=1; set -- "$@" --media ;;
    --help | -h) sed -n '2,6s/^# //p' "$0"; exit 0 ;;
    *) die "what is $word? See --help" ;;
  esac
done
[ "$media" = 0 ] || die "--media needs a directory"

if [ -n "$user" ]; then
  prefix=$HOME/.local
else
  prefix=/usr/local
  [ "$(id -u)" = 0 ] || die "this needs root: sudo ./install.sh; or ./install.sh --user"
fi
if [ -e /usr/bin/dmc ]; then
  die "/usr/bin/dmc is there, of a package: upgrade that, or remove it first"
fi

list=$prefix/lib/dmc/installed
mkdir -p "$prefix/lib/dmc"
: >"$list.new"
cd "$here"
find bin share -type f | while IFS= read -r file; do
  mkdir -p "$prefix/$(dirname "$file")"
  # A running program keeps its own file: the new one takes its name.
  cp "$file" "$prefix/$file.dmc-new"
  mv "$prefix/$file.dmc-new" "$prefix/$file"
  echo "$file" >>"$list.new"
done
cp uninstall.sh "$prefix/lib/dmc/uninstall.sh"
mv "$list.new" "$list"
echo "installed $prefix/bin/dmc"

command -v ffmpeg >/dev/null || echo "there is no ffmpeg yet: sudo apt install ffmpeg" >&2
case :$PATH: in
  *:"$prefix/bin":*) ;;
  *) echo "put $prefix/bin into your PATH" >&2 ;;
esac
[ -n "$service" ] || exit 0
"$prefix/bin/dmc" service install "$@"
