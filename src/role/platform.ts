import type { Config } from "../config/config.ts";
import type { Cidr, HostPort } from "../model/addresses.ts";
import type { LocalApp } from "../model/apps.ts";
import { eventRecorder } from "../kubernetes/events.ts";
import { followOwnService } from "../kubernetes/own-service.ts";
import { createPermissions } from "../kubernetes/permissions.ts";
import { secretBackend } from "../kubernetes/secret-state.ts";
import { connect } from "../kubernetes/transport.ts";
import type { OnAnnounced } from "../reconcile/reconciler.ts";
import { combine } from "../sources/combine.ts";
import { fileSource } from "../sources/file.ts";
import { kubernetesSource } from "../sources/kubernetes/source.ts";
import { upstreamPolicy } from "../sources/resolver-policy.ts";
import { resolving, type Resolver } from "../sources/resolver.ts";
import type { Source } from "../sources/source.ts";
import { openStore } from "../store/open.ts";
import { sqliteBackend } from "../store/sqlite.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import { serviceTarget } from "../targets/kubernetes/target.ts";
import type { ServiceTarget } from "../targets/target.ts";
import { ownUpstreams } from "./upstreams.ts";

/** What differs between a plain machine and a cluster: where apps come from, what is made of imports, what keeps state. */
export interface Platform {
  readonly source: Resolver;
  readonly services?: ServiceTarget;
  readonly onAnnounced?: OnAnnounced;
  readonly platformEndpoint?: () => HostPort | undefined;
  openStore(): Promise<Store>;
}

export interface PlatformFacts {
  /** The tunnel's network, once known. */
  readonly tunnel: () => Cidr | undefined;
  /** Who gets an app, for Events: `every client`, `server "hub"`; undefined: nobody. */
  readonly audience: (app: LocalApp) => string | undefined;
}

/** Throws where a kubeconfig cannot be used. Does not wait for an API server. */
export async function openPlatform(
  config: Config,
  logger: Logger,
  facts: PlatformFacts,
  signal: AbortSignal,
): Promise<Platform> {
  const sources: Source[] = config.apps === undefined ? [] : [fileSource(config.apps, logger)];
  const onDisk = (): Promise<Store> => openStore(sqliteBackend(config.stateDir));
  const finish = (all: readonly Source[]): Resolver =>
    resolving(combine(all), {
      forbidden: upstreamPolicy(config.allowUpstreams, ownUpstreams(config, facts.tunnel)),
      logger,
    });
  const { kubernetes } = config;
  if (kubernetes === undefined) return { source: finish(sources), openStore: onDisk };

  const api = await connect({
    signal,
    ...(kubernetes.kubeconfig === undefined ? {} : { kubeconfig: kubernetes.kubeconfig }),
  });
  const permissions = createPermissions(logger);
  const events = eventRecorder(
    api,
    { instance: `${kubernetes.application}/${config.name}`, permissions, logger },
    signal,
  );
  const watched = kubernetesSource(
    api,
    {
      namespaces: kubernetes.watchNamespaces,
      allowExternal: kubernetes.allowExternal,
      events,
      permissions,
      audience: facts.audience,
    },
    logger,
  );
  const endpoint =
    config.role === "server" && config.endpoint === undefined
      ? {
          platformEndpoint: followOwnService(
            { api, namespace: kubernetes.namespace, name: kubernetes.application, logger },
            signal,
          ),
        }
      : {};
  return {
    ...endpoint,
    source: finish([...sources, watched]),
    onAnnounced: (changed, live) => watched.announced(changed, live),
    services: serviceTarget({
      api,
      release: {
        namespace: kubernetes.namespace,
        application: kubernetes.application,
        activeOnly: kubernetes.leaderElection,
      },
      networkPolicies: kubernetes.networkPolicies,
      events,
      logger,
      missingPermissions: () => permissions.missing(),
      sourceWatching: () => watched.watching(),
    }),
    openStore: () =>
      kubernetes.state === "sqlite"
        ? onDisk()
        : openStore(
            secretBackend({
              api,
              namespace: kubernetes.namespace,
              name: `${kubernetes.application}-state`,
              logger,
              labels: { application: kubernetes.application },
            }),
          ),
  };
}
