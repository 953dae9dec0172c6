# shellcheck shell=bash
# What speaks with container registries: crane for images, helm for the chart. Needs debian.sh and wireguard.sh.

crane_module=github.com/google/go-containerregistry/cmd/crane@v0.22.1

# The one in PATH, else built from its Go module into the cache.
ensure_crane() {
  have crane && return 0
  [[ -x /usr/local/go/bin/go ]] && PATH=$PATH:/usr/local/go/bin
  go_can_build || install_packages golang-go ca-certificates
  go_can_build || die "Cannot build crane: it needs Go 1.21 or later; install Go, or crane itself"
  mkdir -p "$cache/bin"
  CGO_ENABLED=0 GOBIN=$cache/bin quietly "Building crane ($crane_module)" \
    go install -trimpath -ldflags "-s -w" "$crane_module" || die "Cannot build crane, see above"
}

# Prints the path of helm: the one in PATH, else the test cluster's.
find_helm() {
  local helm
  helm=$(command -v helm || printf '%s' "${CLUSTER_CACHE:-$HOME/.cache/wormhole-cluster}/helm")
  [[ -x $helm ]] || die "There is no helm: install it, or run tests/cluster/cluster build"
  printf '%s\n' "$helm"
}
