# shellcheck shell=bash
# Debian packages, installed without starting or stopping any service.

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

missing_packages() {
  local package
  for package; do installed "$package" || printf '%s\n' "$package"; done
}

# install_packages package...: nothing when all are there.
install_packages() {
  local missing new_nginx=yes
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  ((EUID == 0)) || die "Cannot install ${missing[*]}: current user is $(id -un); run this as root"
  have apt-get || die "Cannot install ${missing[*]}: this is no Debian; install them by hand"
  if [[ -n $(command -v nginx) ]]; then new_nginx=no; fi

  guard_services
  trap release_services EXIT
  # Package lists first only where a package is unknown: an update costs seconds and a network.
  if [[ $(LC_ALL=C apt-cache policy "${missing[@]}" | grep -c 'Candidate: [0-9]') -lt ${#missing[@]} ]]; then
    quietly "Reading Debian's package lists" apt-get update -qq
  fi
  if ! apt_install "${missing[@]}"; then
    quietly "Reading Debian's package lists again" apt-get update -qq
    apt_install "${missing[@]}" || die "Cannot install ${missing[*]}: apt-get failed, see above"
  fi
  release_services
  trap - EXIT
  if [[ $new_nginx == yes && -n $(command -v nginx) ]]; then keep_nginx_off; fi
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive quietly "Installing Debian packages: $*" \
    apt-get install -yqq --no-install-recommends -o DPkg::Lock::Timeout=120 \
    -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold "$@"
}

# invoke-rc.d asks this file before it touches a service (Debian policy 9.3.3.2, /usr/share/doc/init-system-helpers).
policy=/usr/sbin/policy-rc.d
saved_policy=$policy.before-wormhole

# Denies everything to nginx, so that none begins to listen on port 80 and one that runs is left alone.
# Other services follow the rules that were there before.
guard_services() {
  if [[ -e $policy && ! -e $saved_policy ]] && ! grep -q 'wormhole guard' "$policy"; then
    mv "$policy" "$saved_policy"
  fi
  cat >"$policy" <<EOF
#!/bin/sh
# wormhole guard: removed when the installation ends
for argument; do
  case \$argument in nginx | nginx.service) exit 101 ;; esac
done
[ ! -x $saved_policy ] || exec $saved_policy "\$@"
exit 0
EOF
  chmod 755 "$policy"
}

release_services() {
  if [[ -e $saved_policy ]]; then
    mv "$saved_policy" "$policy"
  elif grep -qs 'wormhole guard' "$policy"; then
    rm "$policy"
  fi
}

# The package enables its service for the next boot; wormhole runs an nginx of its own and wants no other.
keep_nginx_off() {
  if have systemctl; then
    systemctl disable nginx.service >/dev/null 2>&1 || true
  elif have update-rc.d; then
    update-rc.d nginx disable >/dev/null 2>&1 || true
  fi
}
