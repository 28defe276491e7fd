#!/bin/bash
# Makes a package of the program: package.sh deb|tarball [DIRECTORY]
#   DMC_BIN=FILE           this program instead of a new release build
#   DMC_PACKAGE_VERSION=V  this version instead of the workspace's
#   DMC_PACKAGE_LEVEL=1    packed in a hurry, for tests
# Needs nothing beside the program but what every Debian has; both packages hold the same files.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
what=${1:-}
out=$(realpath -m "${2:-${CARGO_TARGET_DIR:-$repo/target}/package}")
die() { echo "package.sh: $*" >&2; exit 1; }

case $what in
  deb) command -v dpkg-deb >/dev/null || die "there is no dpkg-deb here: make the tarball" ;;
  tarball) ;;
  *) die "say what to make: deb or tarball" ;;
esac

if [ -z "${DMC_BIN:-}" ]; then
  (cd "$repo" && "${CARGO:-cargo}" build --locked --release -p dmc-agent --bin dmc)
  DMC_BIN=${CARGO_TARGET_DIR:-$repo/target}/release/dmc
fi
[ -x "$DMC_BIN" ] || die "$DMC_BIN is no program"
version=${DMC_PACKAGE_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$repo/Cargo.toml" | head -1)}
level=${DMC_PACKAGE_LEVEL:-9}
# Files of the same commit make the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$repo" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
umask 022
chmod 755 "$tree"
mkdir -p "$out"

# stage PREFIX: the program and what belongs to it.
stage() {
  local to=$tree/$1
  install -Dm755 "$DMC_BIN" "$to/bin/dmc"
  if command -v strip >/dev/null; then strip --strip-debug "$to/bin/dmc"; fi
  "$to/bin/dmc" man "$to/share/man/man1"
  find "$to/share/man" -name '*.1' -exec gzip -9n {} +
  mkdir -p "$to/share/bash-completion/completions" "$to/share/zsh/vendor-completions" \
    "$to/share/fish/vendor_completions.d"
  "$to/bin/dmc" completions bash >"$to/share/bash-completion/completions/dmc"
  "$to/bin/dmc" completions zsh >"$to/share/zsh/vendor-completions/_dmc"
  "$to/bin/dmc" completions fish >"$to/share/fish/vendor_completions.d/dmc.fish"
  local doc=$to/share/doc/dmc
  install -Dm644 "$repo/docs/INSTALL.md" "$repo/docs/USER.md" "$repo/docs/SECURITY.md" -t "$doc"
  install -Dm644 "$repo/LICENSE" "$doc/copyright"
  gzip -9nc "$repo/CHANGELOG.md" >"$doc/changelog.gz"
  chmod 644 "$doc"/*
}

settle() { find "$tree" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +; }

# The oldest C library that the program runs with.
libc_min() { grep -aoE 'GLIBC_2\.[0-9]+' "$DMC_BIN" | sort -uV | tail -1 | sed 's/GLIBC_//'; }

make_deb() {
  local arch
  arch=$(dpkg --print-architecture)
  stage usr
  install -Dm644 "$here/dmc.service" -t "$tree/usr/lib/systemd/system"
  install -Dm644 "$here/config.toml" -t "$tree/etc/dmc"
  install -Dm755 "$here"/deb/{postinst,prerm,postrm} -t "$tree/DEBIAN"
  echo /etc/dmc/config.toml >"$tree/DEBIAN/conffiles"
  (cd "$tree" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
  sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@LIBC@/$(libc_min)/" \
    -e "s/@SIZE@/$(du -sk "$tree" | cut -f1)/" "$here/deb/control" >"$tree/DEBIAN/control"
  chmod 644 "$tree"/DEBIAN/{control,conffiles,md5sums}
  settle
  local file=$out/dmc_${version}_$arch.deb
  dpkg-deb --root-owner-group -Zxz "-z$level" --build "$tree" "$file" >&2
  echo "$file"
}

make_tarball() {
  local name
  name=dmc-$version-linux-$(uname -m)
  stage "$name"
  install -m755 "$here/install.sh" "$here/uninstall.sh" -t "$tree/$name"
  settle
  # Not xz, which is smaller by a fifth: it is missing on small systems.
  local file=$out/$name.tar.gz
  tar -C "$tree" --sort=name --owner=0 --group=0 --numeric-owner -c "$name" | gzip -n "-$level" >"$file"
  echo "$file"
}

"make_$what"
