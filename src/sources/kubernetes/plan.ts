import { parseHost, parsePort, type HostPort, type Port } from "../../model/addresses.ts";
import type { LocalApp, Protocol } from "../../model/apps.ts";
import { fitLabel } from "../../model/names.ts";
import { ok, quote, refuse, type Refusal, type Result } from "../../model/result.ts";
import { readAnnotations, subjectOf, type Exposure } from "./annotations.ts";
import { keyOf, type EndpointSliceObject, type ServiceObject, type ServicePort } from "./objects.ts";

export interface PlanOptions {
  /** Expose ExternalName and selector-less Services too. A tenant may point those at any address. */
  readonly allowExternal: boolean;
}

/** One port of a Service that is to be an app; its name may still be somebody else's. */
export interface Claim {
  /** `namespace/name:port`: the same as long as the Service and the port are called the same. */
  readonly id: string;
  /** `namespace/name`. */
  readonly service: string;
  /** A label. */
  readonly wanted: string;
  /** What decides who has a name: its own namespace and name before any annotation, creation time, `namespace/name:port`. */
  readonly order: string;
  readonly app: Omit<LocalApp, "name">;
}

export interface ServicePlan {
  readonly claims: readonly Claim[];
  readonly refusals: readonly Refusal[];
  /** The refusal is about what its annotations say, and not about the Service itself. */
  readonly invalid: boolean;
  /** Its upstreams come from EndpointSlices. */
  readonly headless: boolean;
}

const nothing: ServicePlan = { claims: [], refusals: [], invalid: false, headless: false };

/**
 * What one Service asks for. `slices` are those of a headless Service; undefined: not known yet, which exposes nothing
 * and refuses nothing.
 */
export function planService(
  service: ServiceObject,
  slices: Iterable<EndpointSliceObject> | undefined,
  options: PlanOptions,
): ServicePlan {
  const exposure = readAnnotations(service);
  if (!exposure.ok) return { ...nothing, refusals: [exposure.refusal], invalid: true };
  if (exposure.value === undefined) return nothing;
  const external = refuseExternal(service, options);
  if (external !== undefined) return { ...nothing, refusals: [external] };
  const headless = service.spec?.clusterIP === "None" && service.spec.type !== "ExternalName";
  if (headless && slices === undefined) return { ...nothing, headless };

  const claims: Claim[] = [];
  const refusals: Refusal[] = [];
  for (const port of exposure.value.ports) {
    const claim = claimOf(service, port, exposure.value, headless ? [...(slices ?? [])] : undefined);
    if (claim.ok) claims.push(claim.value);
    else refusals.push(claim.refusal);
  }
  return { claims, refusals, invalid: false, headless };
}

function refuseExternal(service: ServiceObject, options: PlanOptions): Refusal | undefined {
  if (options.allowExternal) return undefined;
  const remedy =
    "set allowExternal on this side, if everybody who may write Services here may name any address";
  if (service.spec?.type === "ExternalName")
    return {
      subject: subjectOf(service),
      rule: "is an ExternalName Service, which may point anywhere",
      remedy,
    };
  if (Object.keys(service.spec?.selector ?? {}).length === 0)
    return { subject: subjectOf(service), rule: "has no selector: its endpoints may be anywhere", remedy };
  return undefined;
}

const protocols: ReadonlyMap<string, Protocol> = new Map([
  ["TCP", "tcp"],
  ["UDP", "udp"],
]);

function claimOf(
  service: ServiceObject,
  port: ServicePort,
  exposure: Exposure,
  slices: readonly EndpointSliceObject[] | undefined,
): Result<Claim> {
  const label = port.name ?? `${port.port}`;
  const subject = `${subjectOf(service)} port ${label}`;
  const protocol = protocols.get(port.protocol ?? "TCP");
  if (protocol === undefined)
    return refuse(subject, `has the protocol ${quote(port.protocol)}`, "wormhole carries TCP and UDP only");
  const number = parsePort(port.port, subject);
  if (!number.ok) return number;
  const upstreams =
    slices === undefined
      ? clusterUpstream(service, number.value, subject)
      : headlessUpstreams(service, port, slices, subject);
  if (!upstreams.ok) return upstreams;
  const id = `${keyOf(service)}:${label}`;
  return ok({
    id,
    service: keyOf(service),
    wanted: fitLabel(exposure.ports.length === 1 ? exposure.name : `${exposure.name}-${label}`),
    // RFC 3339 in UTC sorts as text. A tenant who calls an older Service of his like another's must not get its peers.
    order: `${exposure.named ? "named" : "by right"} ${service.metadata.creationTimestamp ?? "9999"} ${id}`,
    app: {
      protocol,
      upstreams: upstreams.value,
      originalPort: number.value,
      ...(exposure.peers === undefined ? {} : { peers: exposure.peers }),
      origin: subjectOf(service),
    },
  });
}

function clusterUpstream(service: ServiceObject, port: Port, subject: string): Result<readonly HostPort[]> {
  const { type, externalName, clusterIP } = service.spec ?? {};
  const host = parseHost(type === "ExternalName" ? externalName : clusterIP);
  return host.ok
    ? ok([{ host: host.value, port }])
    : refuse(
        subject,
        `points at ${quote(type === "ExternalName" ? externalName : clusterIP)}, which is no address`,
      );
}

const families: ReadonlySet<string | undefined> = new Set(["IPv4", "IPv6"]);

/** Every ready address, sorted; of the Service's first IP family where it has several. */
function headlessUpstreams(
  service: ServiceObject,
  port: ServicePort,
  slices: readonly EndpointSliceObject[],
  subject: string,
): Result<readonly HostPort[]> {
  const family = service.spec?.ipFamilies?.[0];
  const found = new Map<string, HostPort>();
  for (const slice of slices) {
    if (family === undefined ? !families.has(slice.addressType) : slice.addressType !== family) continue;
    for (const { address, number } of readyAddresses(slice, port)) {
      const host = parseHost(address);
      const target = parsePort(number);
      if (host.ok && target.ok)
        found.set(`${host.value} ${target.value}`, { host: host.value, port: target.value });
    }
  }
  if (found.size === 0)
    return refuse(subject, "is headless and has no ready address", "it is exposed as soon as a pod is ready");
  return ok([...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, upstream]) => upstream));
}

function* readyAddresses(
  slice: EndpointSliceObject,
  port: ServicePort,
): Generator<{ address: string; number: number | undefined }> {
  const target = slice.ports?.find(
    ({ name, protocol }) =>
      (name ?? "") === (port.name ?? "") && (protocol ?? "TCP") === (port.protocol ?? "TCP"),
  );
  if (target === undefined) return;
  for (const endpoint of slice.endpoints ?? [])
    // An absent condition means ready (discovery/v1).
    if (endpoint.conditions?.ready !== false)
      for (const address of endpoint.addresses ?? []) yield { address, number: target.port };
}
