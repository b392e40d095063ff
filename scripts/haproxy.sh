#!/bin/sh
# Install Debian's HAProxy unless HAProxy is present; print instructions if that needs root.
set -eu

if command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing HAProxy"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends haproxy
else
    echo "The tests of the proxy need HAProxy; on Debian: sudo apt-get install haproxy" >&2
    exit 1
fi
