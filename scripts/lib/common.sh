# shellcheck shell=bash
# Sourced by every script here: where things are, and progress lines with the seconds that passed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wormhole

# Upstream's wireguard-go, several times faster than Debian's (docs/performance.md).
wireguard_go_module=golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446
bun_version=$(sed -n 's/.*"bun": *"\([0-9.]*\)".*/\1/p' "$root/package.json" | head -1)

export PATH="$cache/bin:$PATH:/usr/sbin:/sbin"

say() { printf '[%3d s] %s\n' "$SECONDS" "$*" >&2; }
die() {
  printf 'Error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# quietly LABEL command...: says LABEL, shows the command's output only when it fails.
quietly() {
  local label=$1 log status=0
  shift
  say "$label"
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  if ((status)); then
    tail -n 40 "$log" >&2
    rm -f "$log"
    return "$status"
  fi
  rm -f "$log"
}
