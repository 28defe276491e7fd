#!/bin/bash
# Installs nginx, Apache and Chromium where they are missing, for the tests of examples/nginx.conf
# and examples/apache.conf and of the dashboard. Nothing is started by that, now or with the machine.
# Without them those tests say that they skip: nothing here is a reason to fail. (Ubuntu has no
# package of Chromium.)
set -u
PATH=$PATH:/usr/sbin:/sbin
missing=()
command -v nginx >/dev/null || missing+=(nginx-light)
# The program alone: its service is in another package.
command -v apache2 >/dev/null || missing+=(apache2-bin)
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
[ "${#missing[@]}" -gt 0 ] || exit 0

skip() { echo "$*: the tests of ${missing[*]} will be skipped" >&2; exit 0; }
command -v apt-get >/dev/null || skip "there is no apt-get here"
sudo=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || skip "this needs root, and there is no sudo"
  sudo=sudo
fi

# What Debian's packages ask before they start a service; 101: no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '$sudo rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null && $sudo chmod 755 "$policy" ||
    skip "cannot write $policy, without which nginx would start"
fi
echo "installing ${missing[*]}"
$sudo apt-get update -qq || skip "apt-get fails"
for package in "${missing[@]}"; do
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" ||
    echo "no $package: its tests will be skipped" >&2
done
case " ${missing[*]} " in
  *" nginx-light "*) $sudo update-rc.d nginx disable ;;
esac
exit 0
