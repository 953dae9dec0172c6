# shellcheck shell=bash
# A Docker daemon for the tests: the one that answers already, else one of our own with its own directories and socket.

docker_state=${WORMHOLE_DOCKER_STATE:-/var/lib/wormhole-docker}
docker_run=${WORMHOLE_DOCKER_RUN:-/run/wormhole-docker}

# ensure_docker: afterwards `docker` works; DOCKER_HOST is exported where the daemon is our own.
ensure_docker() {
  if ! have docker || { ! docker_answers && ! have dockerd; }; then install_packages docker.io ca-certificates iptables; fi
  docker_answers && return 0
  export DOCKER_HOST=unix://$docker_run/docker.sock
  docker_answers && return 0
  start_docker
}

docker_answers() { timeout 20 docker version >/dev/null 2>&1; }

# It leaves the machine's firewall and forwarding as they are: ports are published by docker-proxy, and containers reach
# no further than this machine, which is all that tests need. Image builds use --network host.
start_docker() {
  ((EUID == 0)) || die "Cannot start dockerd: current user is $(id -un); run this as root or start Docker"
  mkdir -p "$docker_state" "$docker_run"
  exec 8>"$docker_run/lock"
  flock 8
  if ! docker_answers; then
    prepare_cgroups
    say "Starting dockerd ($docker_run/docker.sock, log $docker_run/log)"
    # Its own socket for containerd's supervision lives below --exec-root; an end of the caller must not end it.
    setsid dockerd --host "$DOCKER_HOST" --data-root "$docker_state" --exec-root "$docker_run/exec" \
      --pidfile "$docker_run/pid" --storage-driver "$(docker_storage)" --bridge none \
      --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --containerd-namespace wormhole \
      --containerd-plugins-namespace wormhole-plugins >>"$docker_run/log" 2>&1 8>&- </dev/null &
    local tries
    for ((tries = 0; tries < 300; tries++)); do
      docker_answers && break
      kill -0 $! 2>/dev/null || break
      sleep 0.2
    done
  fi
  exec 8>&-
  docker_answers || die "Cannot start dockerd: $(tail -n 3 "$docker_run/log")"
}

# overlayfs on overlayfs is refused by the kernel; vfs works everywhere, slowly.
docker_storage() {
  if [[ $(stat -f -c %T "$docker_state") == overlayfs ]]; then printf 'vfs\n'; else printf 'overlay2\n'; fi
}

# A machine without an init system may have no hierarchy for a controller that runc wants.
prepare_cgroups() {
  if mountpoint -q /sys/fs/cgroup; then return 0; fi
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
}

# stop_docker: ends our own daemon, with its containers; leaves any other alone.
stop_docker() {
  [[ -s $docker_run/pid ]] || return 0
  local pid
  pid=$(<"$docker_run/pid")
  [[ $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) == *"--data-root $docker_state "* ]] || return 0
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}
