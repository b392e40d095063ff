#!/bin/sh
# Install Debian's PACKAGE unless one of the PROGRAMs is present; without root, print the command instead.
#   scripts/install_debian.sh PACKAGE PROGRAM…
set -eu

package=$1
shift
for program; do
    # Debian puts servers into /usr/sbin, which is not in every user's PATH.
    if PATH=$PATH:/usr/sbin command -v "$program" >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing $package"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$package"
else
    echo "$1 is missing; on Debian: sudo apt-get install $package" >&2
    exit 1
fi
