import { expect, test } from "bun:test";
import { join } from "node:path";
import { configurationDoc } from "./docs.ts";
import { settingsHelp } from "./help.ts";
import { keys, settingOf, settings } from "./schema.ts";
import { standardOf } from "./setting.ts";

test("a server's help lists its settings and their defaults", () => {
  expect(settingsHelp("server")).toMatchInlineSnapshot(`
    "Configuration file:
      --config FILE
          YAML with the same settings (syncPort for --sync-port). Default:
          /etc/wormhole/<instance>.yaml, if it exists.

    Identity:
      --name NAME
          The name that peers see: a DNS label. Default: server.
      --instance NAME
          Sets several instances on one host apart: configuration file, directories, interface and
          firewall table carry it. Default: server.
      --metadata JSON
          An object that the other side shows beside this peer's name; at most 8192 bytes. Default: {}.
      --state-dir DIR
          Identity, peers and port leases; mode 0700. Default: /var/lib/wormhole/<instance>.
      --run-dir DIR
          Sockets, process ids and nginx's configuration; belongs on a tmpfs. Default:
          /run/wormhole/<instance>.

    Pairing and syncing:
      --pairing-address [ADDRESS:]PORT
          Where clients pair over HTTP. Reachable from outside; may sit behind a TLS proxy. Default:
          0.0.0.0:8080.
      --trusted-proxies CIDR,…
          Proxies in front of the pairing address whose X-Forwarded-For counts. Default: none.
      --psk-pairing
          Let clients pair by PSK. False: by tokens and as known peers alone. Default: true.
      --public-url URL
          Where clients reach the pairing address from outside, for tokens: needed behind a TLS proxy.
          Default: the endpoint's host and the pairing port.
      --psk-file FILE, or WORMHOLE_PSK
          The key that server and clients share for pairing; 16 to 512 characters. Default: on a server:
          made at the first start and kept in its state.
      --sync-port PORT
          TCP port on the server's tunnel address where clients sync their apps. Default: 8081.
      --sync-interval DURATION
          Time between two heartbeats of a sync session, 1s to 1m. Changes never wait for it. Default:
          5s.

    Tunnel:
      --tunnel ADDRESS/BITS
          The server's own tunnel address and the network that clients get theirs from: private, /8 to
          /30. Must not overlap an existing route. Default: 10.188.0.1/24.
      --endpoint HOST[:PORT]
          Where clients reach this server's WireGuard, as seen from outside; IPv6 in brackets. Default:
          the host that a client paired with; in Kubernetes what the Service's LoadBalancer says.
      --wireguard-port PORT
          Local UDP port of WireGuard. Default: 51820.
      --wireguard auto|kernel|userspace
          Which WireGuard to use: the kernel's, wireguard-go, or the kernel's where there is one.
          Default: auto.
      --interface NAME
          The tunnel's network interface; at most 15 characters. Default: wh-<instance>.
      --mtu BYTES
          The tunnel's MTU. Default: MTU of the route to the endpoint less 80, at least 1280.

    Apps:
      --apps PATH
          A YAML file, or a directory of them, with the apps to expose; read again when it changes.
          Default: no apps from files.
      --export-ports FROM-TO
          Ports on the tunnel address where peers reach the apps of this side. Default: 20000-24999.
      --import-ports FROM-TO
          Local ports where the apps of other sides are reached. Default: 25001-30000.
      --import-addresses auto|ADDRESS,…
          Local addresses of imported apps. auto: 127.0.0.1, and in a Kubernetes pod the pod's
          addresses. Default: auto.
      --allow-upstreams CIDR,…
          Loopback or link-local networks that apps may point at after all; refused otherwise. Default:
          none.

    API:
      --api-address [ADDRESS:]PORT
          Where the HTTP API listens. Reading it needs no password. Default: 127.0.0.1:8082, in a
          Kubernetes pod the pod's address.
      --metrics-address [ADDRESS:]PORT
          Where Prometheus reads /metrics. Default: 127.0.0.1:8090, in a Kubernetes pod the pod's
          address.
      --basic-auth-username NAME
          Who may delete peers through the API; needs basicAuthPassword. Default: the API changes
          nothing.
      --basic-auth-password-file FILE, or WORMHOLE_BASIC_AUTH_PASSWORD
          The password of basicAuthUsername.

    Processes and logs:
      --processes managed|external
          managed: this program starts and watches nginx and wireguard-go; external: a supervisor does.
          Default: managed.
      --service-dir DIR
          With external processes: where s6 or runit keeps its service directories nginx and
          wireguard-go, which are told to start when their configuration is written. Default: the
          supervisor starts them unasked.
      --log-level debug|info|warn|error
          The lowest level that is logged. Default: info.
      --log-format auto|json|text
          auto: text on a terminal, JSON elsewhere. Default: auto.

    Kubernetes:
      --kubernetes auto|on|off
          Whether to watch and write Services. auto: in a pod with a service account, or with a
          kubeconfig. Default: auto.
      --kubeconfig FILE
          How to reach the cluster from outside it. Default: the pod's own service account.
      --namespace NAME
          Where Services for imported apps are made and state is kept. Default: the pod's namespace.
      --watch-namespaces NAME,…
          Namespaces whose annotated Services are exposed. Default: all.
      --network-policies
          Make a NetworkPolicy for each imported app, so that only labelled pods reach it. Default:
          false.
      --allow-external
          Let ExternalName and selector-less Services be exposed; their author then chooses any address.
          Default: false.
      --application LABEL
          Value of the \`application\` label that made Services select. Default: wormhole-server.
      --state sqlite|kubernetes
          Where state is kept: in stateDir, or in a Secret of the namespace. Default: sqlite.
      --leader-election
          Run several replicas of which one is in charge; needs state kubernetes. Default: false.
      --pod-name NAME
          This pod's name, from the downward API. Default: none.
      --pod-ips ADDRESS,…
          This pod's addresses, from the downward API (status.podIPs). Default: the addresses of the
          pod's interfaces."
  `);
});

test("a client's help lists its settings and their defaults", () => {
  expect(settingsHelp("client")).toMatchInlineSnapshot(`
    "Configuration file:
      --config FILE
          YAML with the same settings (syncPort for --sync-port). Default:
          /etc/wormhole/<instance>.yaml, if it exists.

    Identity:
      --name NAME
          The name that peers see: a DNS label. Default: the token's, else the host's name, made a DNS
          label.
      --instance NAME
          Sets several instances on one host apart: configuration file, directories, interface and
          firewall table carry it. Default: client.
      --metadata JSON
          An object that the other side shows beside this peer's name; at most 8192 bytes. Default: {}.
      --state-dir DIR
          Identity, peers and port leases; mode 0700. Default: /var/lib/wormhole/<instance>.
      --run-dir DIR
          Sockets, process ids and nginx's configuration; belongs on a tmpfs. Default:
          /run/wormhole/<instance>.

    Pairing and syncing:
      --server URL
          The server's pairing address, such as http://hub.example.org:8080. Default: what the token
          says.
      --token-file FILE, or WORMHOLE_TOKEN
          What \`wormhole token create\` printed on the server: all that a client needs to pair.
      --psk-file FILE, or WORMHOLE_PSK
          The key that server and clients share for pairing; 16 to 512 characters. Default: on a server:
          made at the first start and kept in its state.
      --sync-interval DURATION
          Time between two heartbeats of a sync session, 1s to 1m. Changes never wait for it. Default:
          5s.

    Tunnel:
      --wireguard-port PORT
          Local UDP port of WireGuard. Default: one that the kernel picks.
      --wireguard auto|kernel|userspace
          Which WireGuard to use: the kernel's, wireguard-go, or the kernel's where there is one.
          Default: auto.
      --interface NAME
          The tunnel's network interface; at most 15 characters. Default: wh-<instance>.
      --mtu BYTES
          The tunnel's MTU. Default: MTU of the route to the endpoint less 80, at least 1280.

    Apps:
      --apps PATH
          A YAML file, or a directory of them, with the apps to expose; read again when it changes.
          Default: no apps from files.
      --export-ports FROM-TO
          Ports on the tunnel address where peers reach the apps of this side. Default: 20000-24999.
      --import-ports FROM-TO
          Local ports where the apps of other sides are reached. Default: 25001-30000.
      --import-addresses auto|ADDRESS,…
          Local addresses of imported apps. auto: 127.0.0.1, and in a Kubernetes pod the pod's
          addresses. Default: auto.
      --allow-upstreams CIDR,…
          Loopback or link-local networks that apps may point at after all; refused otherwise. Default:
          none.

    API:
      --api-address [ADDRESS:]PORT
          Where the HTTP API listens. Reading it needs no password. Default: 127.0.0.1:8082, in a
          Kubernetes pod the pod's address.
      --metrics-address [ADDRESS:]PORT
          Where Prometheus reads /metrics. Default: 127.0.0.1:8090, in a Kubernetes pod the pod's
          address.
      --basic-auth-username NAME
          Who may delete peers through the API; needs basicAuthPassword. Default: the API changes
          nothing.
      --basic-auth-password-file FILE, or WORMHOLE_BASIC_AUTH_PASSWORD
          The password of basicAuthUsername.

    Processes and logs:
      --processes managed|external
          managed: this program starts and watches nginx and wireguard-go; external: a supervisor does.
          Default: managed.
      --service-dir DIR
          With external processes: where s6 or runit keeps its service directories nginx and
          wireguard-go, which are told to start when their configuration is written. Default: the
          supervisor starts them unasked.
      --log-level debug|info|warn|error
          The lowest level that is logged. Default: info.
      --log-format auto|json|text
          auto: text on a terminal, JSON elsewhere. Default: auto.

    Kubernetes:
      --kubernetes auto|on|off
          Whether to watch and write Services. auto: in a pod with a service account, or with a
          kubeconfig. Default: auto.
      --kubeconfig FILE
          How to reach the cluster from outside it. Default: the pod's own service account.
      --namespace NAME
          Where Services for imported apps are made and state is kept. Default: the pod's namespace.
      --watch-namespaces NAME,…
          Namespaces whose annotated Services are exposed. Default: all.
      --network-policies
          Make a NetworkPolicy for each imported app, so that only labelled pods reach it. Default:
          false.
      --allow-external
          Let ExternalName and selector-less Services be exposed; their author then chooses any address.
          Default: false.
      --application LABEL
          Value of the \`application\` label that made Services select. Default: wormhole-client.
      --state sqlite|kubernetes
          Where state is kept: in stateDir, or in a Secret of the namespace. Default: sqlite.
      --leader-election
          Run several replicas of which one is in charge; needs state kubernetes. Default: false.
      --pod-name NAME
          This pod's name, from the downward API. Default: none.
      --pod-ips ADDRESS,…
          This pod's addresses, from the downward API (status.podIPs). Default: the addresses of the
          pod's interfaces."
  `);
});

test("docs/configuration.md is what the table of settings makes (bun scripts/configuration-doc.ts)", async () => {
  const file = join(import.meta.dir, "../../docs/configuration.md");
  expect(await Bun.file(file).text()).toBe(configurationDoc());
});

test.each(keys)("the setting %s has a default that its own grammar accepts", (key) => {
  const setting = settingOf(key);
  for (const role of setting.roles) {
    const standard = standardOf(setting, role);
    if (standard === undefined) continue;
    const shaped = setting.kind === "map" ? JSON.parse(standard) : standard;
    const value = setting.kind === "list" ? standard.split(",").filter((item) => item !== "") : shaped;
    expect(setting.parse(value)).toMatchObject({ ok: true });
  }
});

test("help is one sentence or two, and ends as one", () => {
  for (const { help } of Object.values(settings)) expect(help).toMatch(/^[A-Za-z].*\.$/);
});
