#!/bin/sh
# Lint the page and the workflows, and test the page's arithmetic; installs the tools of tests/node into build/node.
set -eu

cd "$(dirname "$0")/.."
if ! command -v npm >/dev/null; then
    echo "These tests need Node 20.19 or newer, with npm" >&2
    exit 1
fi
mkdir -p build/node
if ! cmp -s tests/node/package-lock.json build/node/package-lock.json; then
    cp tests/node/package.json tests/node/package-lock.json build/node
    npm ci --prefix build/node --no-audit --no-fund --silent || { rm build/node/package-lock.json; exit 1; }
fi
build/node/node_modules/.bin/biome lint --error-on-warnings lens/static/*.js tests/node/*.mjs
cp tests/node/lint_workflows.mjs build/node
node build/node/lint_workflows.mjs .github/workflows/*.yml
node --test tests/node/
