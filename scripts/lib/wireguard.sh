# shellcheck shell=bash
# wireguard-go: upstream's where Go can build it, else Debian's.

# Tries it in a network namespace of its own.
kernel_has_wireguard() { unshare --net ip link add wg0 type wireguard 2>/dev/null; }

# Go 1.21 and later fetch the toolchain that a module asks for; go 1.23.1 is what this one asks for.
go_can_build() {
  have go || return 1
  local version
  version=$(go env GOVERSION 2>/dev/null)
  [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 21))
}

build_wireguard_go() {
  local to=$cache/wireguard-go.build
  mkdir -p "$to" "$cache/bin"
  CGO_ENABLED=0 GOBIN=$to quietly "Building wireguard-go ($wireguard_go_module)" \
    go install -trimpath -ldflags "-s -w" "$wireguard_go_module" || return 1
  mv "$to/wireguard" "$cache/bin/wireguard-go"
  rmdir "$to"
}

ensure_wireguard_go() {
  have wireguard-go && return 0
  [[ -x /usr/local/go/bin/go ]] && PATH=$PATH:/usr/local/go/bin
  if go_can_build && build_wireguard_go; then return 0; fi
  if (install_packages wireguard-go); then
    say "Note: Debian's wireguard-go carries a fraction of what upstream's does; with Go 1.23 here, upstream's is built"
    return 0
  fi
  install_packages golang-go ca-certificates
  build_wireguard_go || die "Cannot get wireguard-go: neither Go nor Debian provides it, see above"
}
