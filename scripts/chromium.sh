#!/bin/sh
# Install Debian's Chromium unless a Chromium is present; print instructions if that needs root.
set -eu

if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium
else
    echo "The browser tests need Chromium; on Debian: sudo apt-get install chromium" >&2
    exit 1
fi
