# shellcheck shell=bash
# Bun in the version that package.json pins, from the npm registry, into the cache: no global installation changes.

ensure_bun() {
  if have bun && [[ $(bun --version 2>/dev/null) == "$bun_version" ]]; then return 0; fi
  local npm=(npm)
  if ! have npm; then npm_without_packages || install_packages npm nodejs; fi
  local prefix=$cache/bun-$bun_version found
  mkdir -p "$prefix" "$cache/bin"
  # Without its postinstall script, which newer npm versions may block, the package's `bun` is a placeholder. The
  # binaries themselves are packages of their own (optional dependencies), so the right one is looked for below.
  quietly "Installing Bun $bun_version through npm" \
    "${npm[@]}" install --prefix "$prefix" --no-audit --no-fund --no-update-notifier "bun@$bun_version" ||
    die "Cannot install Bun $bun_version: npm failed, see above"
  found=$(working_bun "$prefix") || die "Cannot run Bun $bun_version: no binary below $prefix works on this machine"
  ln -sfn "$found" "$cache/bin/bun"
  ln -sfn "$found" "$cache/bin/bunx"
  hash -r
}

# Debian's npm is 380 packages, and minutes. Debian's corepack is 15, and fetches npm itself from its registry.
npm_without_packages() {
  have corepack || [[ $(LC_ALL=C apt-cache policy node-corepack 2>/dev/null) == *"Candidate: "[0-9]* ]] || return 1
  have corepack || install_packages nodejs node-corepack
  export COREPACK_HOME=$cache/corepack COREPACK_ENABLE_DOWNLOAD_PROMPT=0
  npm=(corepack npm@10.9.2)
}

# Prints the first Bun below a prefix that runs here: a machine without AVX2 needs the baseline build.
working_bun() {
  local candidate
  for candidate in "$1"/node_modules/bun/bin/bun.exe "$1"/node_modules/@oven/bun-linux-*/bin/bun; do
    if [[ -x $candidate && $("$candidate" --version 2>/dev/null) == "$bun_version" ]]; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}

# node_modules as bun.lock has it; the stamp saves starting Bun when nothing changed.
ensure_dependencies() {
  local stamp=$root/node_modules/.wormhole-lock want
  want=$(sha256sum <"$root/bun.lock")
  if [[ -f $stamp && $(<"$stamp") == "$want" ]]; then return 0; fi
  quietly "Installing the dependencies of bun.lock" bun install --cwd "$root" --frozen-lockfile ||
    die "Cannot install the dependencies: bun install failed, see above"
  printf '%s\n' "$want" >"$stamp"
}
