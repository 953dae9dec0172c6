import type { Role } from "../config/setting.ts";
import { usageError } from "./command.ts";

export interface Unit {
  readonly role: Role;
  readonly instance: string;
  /** The program and, where it is run from source, its script. */
  readonly program: readonly string[];
  /** Absent: the default file, if it is there when the role starts. */
  readonly config: string | undefined;
}

/** A systemd unit (systemd.exec(5), systemd.kill(5)) under which nginx and wireguard-go outlive the role. */
export function renderUnit({ role, instance, program, config }: Unit): string {
  const argv = [
    ...program,
    role,
    "--instance",
    instance,
    ...(config === undefined ? [] : ["--config", config]),
  ];
  return `# Made by wormhole install-service, which replaces it. Changes belong into a drop-in: systemctl edit wormhole-${instance}
[Unit]
Description=wormhole ${role} (${instance})
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${argv.map(word).join(" ")}
Restart=always
RestartSec=1
# A wrong configuration does not get better by trying again.
RestartPreventExitStatus=2

# A restart or an upgrade ends this program alone: nginx and wireguard-go go on, and it takes them over again.
KillMode=process
RuntimeDirectory=wormhole/${instance}
RuntimeDirectoryMode=0711
RuntimeDirectoryPreserve=yes
StateDirectory=wormhole/${instance}
StateDirectoryMode=0700
LimitNOFILE=1048576
# What a crash would write holds keys.
LimitCORE=0

# The tunnel and the firewall need NET_ADMIN; nginx's workers become another user and are signalled; the rest is for
# files that belong to somebody else. Kernel modules are loaded by the kernel itself.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_KILL CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
NoNewPrivileges=yes
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
ProtectSystem=full
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
`;
}

/** One word of a command line (systemd.service(5), "Command lines"). Only plain ones: nothing here needs another. */
function word(text: string): string {
  if (!/^[A-Za-z0-9._/@+=:-]+$/.test(text))
    throw usageError(
      `${JSON.stringify(text)} cannot be put into a unit: use letters, digits and . _ - / @ + = :`,
    );
  return text;
}
