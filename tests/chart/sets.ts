import { client, psk, server, type Values } from "./helm.ts";

/** Values that people install with. Every test over renderings takes all of them. */
export const sets: Readonly<Record<string, Values>> = {
  "a server": server,
  "a client with a PSK": client,
  "a client with a token": { client: { enabled: true, token: "a-token" } },
  "a client with a token from a Secret": {
    client: { enabled: true, tokenSecret: { name: "berlin-token", key: "value" } },
  },
  "a PSK from a Secret": {
    ...server,
    client: { enabled: true, name: "berlin" },
    peering: { existingSecret: "shared", existingSecretKey: "key" },
  },
  "server and client in one release": {
    ...server,
    client: { enabled: true, name: "berlin" },
    peering: { psk },
  },
  "state on volumes": {
    server: { enabled: true, state: "pvc", pvc: { storageClassName: "fast", storage: "2Gi" } },
    client: { enabled: true, name: "berlin", state: "pvc" },
    peering: { psk },
  },
  "two replicas": {
    server: {
      enabled: true,
      replicas: 2,
      podDisruptionBudget: { enabled: true },
      wg: { publicHost: "hub.example.org:51000", internalHost: "10.99.0.1", subnetMask: 20 },
    },
  },
  "without leader election": { server: { enabled: true, leaderElection: false } },
  "network policies": {
    ...server,
    client: { enabled: true, name: "berlin" },
    peering: { psk },
    networkPolicies: { enabled: true },
  },
  "a NodePort": {
    server: {
      enabled: true,
      service: {
        type: "NodePort",
        nodePorts: { wireguard: 31820, pairing: 31080 },
        externalTrafficPolicy: "Local",
      },
      wg: { publicHost: "192.0.2.1:31820" },
    },
  },
  "a NodePort that Kubernetes chooses": {
    server: { enabled: true, service: { type: "NodePort" }, wg: { publicHost: "[2001:db8::1]:31820" } },
  },
  "a load balancer with everything": {
    server: {
      enabled: true,
      service: {
        annotations: { "example.org/pool": "public" },
        loadBalancerClass: "example.org/lb",
        loadBalancerSourceRanges: ["192.0.2.0/24"],
      },
    },
  },
  "watched namespaces": {
    server: { enabled: true, watchNamespaces: ["shop", "tunnels"] },
    client: { enabled: true, name: "berlin", watchNamespaces: ["shop"] },
    peering: { psk },
  },
  "everything else": {
    nameSuffix: "blue",
    server: {
      enabled: true,
      debug: true,
      name: "hub",
      basicAuth: { username: "admin", password: 'secret: with "quotes" and # signs' },
      wg: { tunDevice: true, implementation: "userspace" },
      apps: [{ name: "postgres", address: "192.0.2.10:5432" }],
      config: { mtu: 1380, syncInterval: "2s" },
      extraEnv: [{ name: "TZ", value: "UTC" }],
      priorityClassName: "system-cluster-critical",
      affinity: { nodeAffinity: {} },
      nodeSelector: { "kubernetes.io/os": "linux" },
      tolerations: [{ operator: "Exists" }],
      podAnnotations: { "prometheus.io/scrape": true, "prometheus.io/port": 8090 },
      podLabels: { team: "network" },
    },
    client: {
      enabled: true,
      name: "berlin",
      basicAuth: { existingSecret: "api-login" },
      syncMetadata: { region: "eu", zones: [1, 2], "a key": "with: colons" },
      wg: { tunDevice: true },
    },
    docker: {
      registry: "registry.example.org/",
      image: "team/wormhole",
      version: "sha256:0123456789012345678901234567890123456789012345678901234567890123",
      imagePullSecrets: ["one"],
      pullSecrets: [{ name: "two" }],
    },
    peering: { psk: "0123456789012345" },
    tests: { urls: ["http://hub-default-web"] },
  },
  "values of the original chart that were set by hand": {
    server: {
      enabled: true,
      service: { type: "ClusterIP", annotations: null },
      securityContext: { runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, runAsNonRoot: null },
      containerSecurityContext: { capabilities: { drop: ["ALL"] }, runAsUser: 1000 },
      resources: { requests: { cpu: 0, memory: "128Mi" }, limits: { cpu: 0, memory: "256Mi" } },
      affinity: null,
      nodeSelector: null,
      tolerations: null,
      pvc: { storageClassName: "", storage: "1Gi" },
    },
    docker: { version: "v2", pullSecrets: null },
    peering: { psk },
  },
};
