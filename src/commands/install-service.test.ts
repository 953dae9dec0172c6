import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exitCodes, Stop } from "./command.ts";
import { runInstall, type Installer } from "./install-service.ts";
import { scratch } from "./testing.ts";
import { renderUnit } from "./unit.ts";

// Milliseconds; generous for processes and sockets on a loaded machine.
setDefaultTimeout(60_000);

const unit = {
  role: "server",
  instance: "server",
  program: ["/usr/local/bin/wormhole"],
  config: undefined,
} as const;

interface Try {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly did: readonly string[];
}

async function install(
  argv: readonly string[],
  unitDirectory: string,
  more: Partial<Installer> = {},
): Promise<Try> {
  const [out, err, did]: [string[], string[], string[]] = [[], [], []];
  const io = {
    print: (text: string) => void out.push(text),
    complain: (text: string) => void err.push(text),
    env: {},
    columns: 80,
    colour: false,
    now: () => 0,
    runRoot: "/nonexistent",
  };
  const code = await runInstall(argv, io, {
    unitDirectory,
    program: unit.program,
    confirm: () => false,
    systemctl: (...words) => Promise.resolve(void did.push(words.join(" "))),
    answers: () => Promise.resolve(true),
    failed: () => Promise.resolve(false),
    ...more,
  });
  return { code, out: out.join("\n"), err: err.join("\n"), did };
}

const started = (name: string): string[] => ["daemon-reload", `enable ${name}`, `restart ${name}`];

test("the unit lets nginx and wireguard-go outlive the role", () => {
  expect(renderUnit(unit)).toMatchInlineSnapshot(`
    "# Made by wormhole install-service, which replaces it. Changes belong into a drop-in: systemctl edit wormhole-server
    [Unit]
    Description=wormhole server (server)
    Wants=network-online.target
    After=network-online.target
    StartLimitIntervalSec=0

    [Service]
    Type=exec
    ExecStart=/usr/local/bin/wormhole server --instance server
    Restart=always
    RestartSec=1
    # A wrong configuration does not get better by trying again.
    RestartPreventExitStatus=2

    # A restart or an upgrade ends this program alone: nginx and wireguard-go go on, and it takes them over again.
    KillMode=process
    RuntimeDirectory=wormhole/server
    RuntimeDirectoryMode=0711
    RuntimeDirectoryPreserve=yes
    StateDirectory=wormhole/server
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
    "
  `);
});

test.skipIf(Bun.which("systemd-analyze") === null)("systemd understands the unit", () => {
  using directory = scratch();
  const file = join(directory.path, "wormhole-server.service");
  writeFileSync(file, renderUnit({ ...unit, program: ["/bin/true"] }));
  const { stderr } = Bun.spawnSync(["systemd-analyze", "verify", "--man=no", file]);
  const aboutUnit = stderr
    .toString()
    .split("\n")
    .filter((line) => line.includes("wormhole-server.service:"));
  expect(aboutUnit).toEqual([]);
});

test("a program or file that a unit cannot name is refused", () => {
  expect(() => renderUnit({ ...unit, config: "/etc/a b.yaml" })).toThrow("cannot be put into a unit");
  expect(() => renderUnit({ ...unit, program: ["/opt/%h/wormhole"] })).toThrow("cannot be put into a unit");
});

test("--dry-run prints the unit and the steps, and does nothing", async () => {
  using directory = scratch();
  const { code, out, did } = await install(["client", "--dry-run", "--instance", "edge"], directory.path);
  expect(code).toBe(exitCodes.ok);
  expect(out).toContain("ExecStart=/usr/local/bin/wormhole client --instance edge\n");
  expect(out).toContain(`#   write ${directory.path}/wormhole-edge.service`);
  expect(out).toContain("#   systemctl enable wormhole-edge.service");
  expect(did).toEqual([]);
});

test("nothing is changed unless somebody says yes", async () => {
  using directory = scratch();
  const { code, err, did } = await install(["server"], directory.path);
  expect({ code, did }).toEqual({ code: exitCodes.failed, did: [] });
  expect(err).toEndWith("Nothing was changed; --yes goes on without asking.");
  expect((await install(["server"], directory.path, { confirm: () => true })).did).toEqual(
    started("wormhole-server.service"),
  );
});

test("--yes installs and starts; a second time the unit is kept", async () => {
  using directory = scratch();
  const argv = ["server", "--yes", "--config", "/etc/wormhole/hub.yaml"];
  const first = await install(argv, directory.path);
  expect(first).toMatchObject({ code: exitCodes.ok, did: started("wormhole-server.service") });
  const text = readFileSync(join(directory.path, "wormhole-server.service"), "utf8");
  expect(text).toContain(
    "ExecStart=/usr/local/bin/wormhole server --instance server --config /etc/wormhole/hub.yaml\n",
  );
  const second = await install(argv, directory.path);
  expect(second.err).toContain("which is as it should be");
  expect(second.did).toEqual(started("wormhole-server.service"));
});

test("the instance is the configuration's, and what is wrong with that is said before", async () => {
  using directory = scratch();
  const config = join(directory.path, "edge.yaml");
  writeFileSync(config, "instance: edge2\n");
  const { out } = await install(["server", "--dry-run", "--config", config], directory.path);
  expect(out).toContain("RuntimeDirectory=wormhole/edge2\n");
  writeFileSync(config, "instance: edge2\nsyncport: 1\n");
  const { err } = await install(["server", "--dry-run", "--config", config], directory.path);
  expect(err).toContain("It will not start like this:");
  expect(err).toContain("did you mean syncPort?");
});

test("what systemctl says is passed on", async () => {
  using directory = scratch();
  const failing = install(["server", "--yes"], directory.path, {
    systemctl: () => Promise.reject(new Error("systemctl daemon-reload: not booted with systemd")),
  });
  expect(await failing.catch((error: unknown) => error)).toMatchObject({
    code: exitCodes.failed,
    message: "Cannot install wormhole-server.service: systemctl daemon-reload: not booted with systemd",
  });
});

test("it returns when the role answers, so that the next command finds it", async () => {
  using directory = scratch();
  const asked: string[] = [];
  const { code, out } = await install(["server", "--yes", "--instance", "edge"], directory.path, {
    answers: (socket) => Promise.resolve(asked.push(socket) === 3),
  });
  expect(asked).toEqual(Array(3).fill("/run/wormhole/edge/wormhole.sock"));
  expect({ code, out }).toEqual({
    code: exitCodes.ok,
    out: "wormhole-edge.service runs; see systemctl status wormhole-edge.service and wormhole status",
  });
});

test("a role that ends at once is not said to run", async () => {
  using directory = scratch();
  const ended = install(["server", "--yes"], directory.path, {
    answers: () => Promise.resolve(false),
    failed: (name) => Promise.resolve(name === "wormhole-server.service"),
  });
  expect(await ended.catch((error: unknown) => error)).toMatchObject({
    code: exitCodes.failed,
    message:
      "wormhole-server.service is installed, but ended at its start; see journalctl --unit wormhole-server.service",
  });
});

test.each([
  [[]],
  [["hub"]],
  [["server", "client"]],
  [["server", "--instance", "../x"]],
  [["server", "--force"]],
])("%j is wrong usage", async (argv) => {
  using directory = scratch();
  const stop = await install(argv, directory.path).catch((error: unknown) => error);
  expect(stop).toBeInstanceOf(Stop);
  expect((stop as Stop).code).toBe(exitCodes.usage);
});
