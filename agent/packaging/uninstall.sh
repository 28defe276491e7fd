#!/bin/sh
# Takes away what install.sh installed.
#   sudo ./uninstall.sh [--purge]     the machine's
#   ./uninstall.sh --user [--purge]   yours
# State and settings stay unless --purge is said. Media are never touched.
set -eu
user='' purge=''
die() { echo "uninstall.sh: $*" >&2; exit 1; }
for word; do
  case $word in
    --user) user=--user ;;
    --purge) purge=--purge ;;
    --help | -h) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
    *) die "what is $word? See --help" ;;
  esac
done
if [ -n "$user" ]; then
  prefix=$HOME/.local
else
  prefix=/usr/local
  [ "$(id -u)" = 0 ] || die "this needs root: sudo ./uninstall.sh; or ./uninstall.sh --user"
fi
list=$prefix/lib/dmc/installed
[ -e "$list" ] || die "$list is not there: nothing was installed below $prefix"

if [ -x "$prefix/bin/dmc" ]; then
  # shellcheck disable=SC2086 # empty words are to vanish
  "$prefix/bin/dmc" service uninstall $user $purge
fi
while IFS= read -r file; do
  rm -f "$prefix/$file"
  # Directories that were made for it alone.
  dir=$(dirname "$file")
  while [ "$dir" != . ]; do
    rmdir "$prefix/$dir" 2>/dev/null || break
    dir=$(dirname "$dir")
  done
done <"$list"
rm -f "$list" "$prefix/lib/dmc/uninstall.sh"
rmdir "$prefix/lib/dmc" 2>/dev/null || true
echo "removed dmc from $prefix"
