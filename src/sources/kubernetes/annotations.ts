import { annotationPrefix, labels } from "../../model/labels.ts";
import { parsePeerName, type PeerName } from "../../model/names.ts";
import { ok, quote, refuse, type Result } from "../../model/result.ts";
import type { ServiceObject, ServicePort } from "./objects.ts";

/** What a Service's annotations ask for. */
export interface Exposure {
  /** Of the app, where one port is exposed; several add `-<port>`. May be longer than a label. */
  readonly name: string;
  /** Whether an annotation gives the name; else it says whose Service it is. */
  readonly named: boolean;
  /** Never empty; in the order of the Service. */
  readonly ports: readonly ServicePort[];
  /** Sorted; absent: everyone. */
  readonly peers?: readonly PeerName[];
}

const exposedValues: ReadonlyMap<string | undefined, boolean> = new Map([
  ["yes", true],
  ["true", true],
  ["1", true],
  ["no", false],
  ["false", false],
  ["0", false],
  [undefined, false],
]);

/** Anything longer is no list of ports or peers that somebody wrote by hand. */
const longestList = 8192;

/** Labels joined by dashes make names longer than a label: those are cut with a hash later. */
const longName = /^[a-z0-9]([a-z0-9-]{0,251}[a-z0-9])?$/;

export const subjectOf = (service: ServiceObject): string =>
  `Service ${service.metadata.namespace ?? "default"}/${service.metadata.name}`;

/** Undefined where the Service does not ask to be exposed. An invalid annotation refuses the whole Service. */
export function readAnnotations(service: ServiceObject): Result<Exposure | undefined> {
  const subject = subjectOf(service);
  const read = (name: string): string | undefined =>
    service.metadata.annotations?.[`${annotationPrefix}/${name}`];
  const exposed = exposedValues.get(read("exposed"));
  if (exposed === undefined)
    return refuse(
      subject,
      `annotation ${annotationPrefix}/exposed is ${quote(read("exposed"))}`,
      "use yes, true, 1, no, false or 0",
    );
  if (!exposed || service.metadata.deletionTimestamp !== undefined) return ok(undefined);
  if (service.metadata.labels?.[labels.exposedBy] !== undefined)
    return refuse(
      subject,
      "was made by wormhole and is never exposed again",
      `remove the annotation ${annotationPrefix}/exposed`,
    );

  const standard = `${service.metadata.namespace ?? "default"}-${service.metadata.name}`;
  const name = read("name") ?? standard;
  if (!longName.test(name))
    return refuse(
      subject,
      `annotation ${annotationPrefix}/name is ${quote(name)}`,
      "use a-z, 0-9 and '-', beginning and ending with a letter or digit",
    );
  const ports = readPorts(subject, service.spec?.ports ?? [], read("ports"));
  if (!ports.ok) return ports;
  const peers = readPeers(subject, read("peers"));
  if (!peers.ok) return peers;
  const named = name !== standard;
  return ok({
    name,
    named,
    ports: ports.value,
    ...(peers.value === undefined ? {} : { peers: peers.value }),
  });
}

function readPorts(
  subject: string,
  ports: readonly ServicePort[],
  text: string | undefined,
): Result<readonly ServicePort[]> {
  const known = ports.map((port) =>
    port.name === undefined ? `${port.port}` : `${port.name} (${port.port})`,
  );
  if (ports.length === 0) return refuse(subject, "has no ports", "give it the ports that are to be exposed");
  if (text === undefined) return ok(ports);
  const wanted = readList(text);
  const match = (word: string) => (port: ServicePort) => port.name === word || `${port.port}` === word;
  const unknown = wanted?.find((word) => !ports.some(match(word)));
  if (wanted === undefined || unknown !== undefined)
    return refuse(
      subject,
      `annotation ${annotationPrefix}/ports is ${quote(text)}${unknown === undefined ? "" : `, and there is no port ${quote(unknown)}`}`,
      `use names or numbers of its ports, separated by commas: ${known.join(", ")}`,
    );
  return ok(ports.filter((port) => wanted.some((word) => match(word)(port))));
}

function readPeers(subject: string, text: string | undefined): Result<readonly PeerName[] | undefined> {
  if (text === undefined) return ok(undefined);
  const peers = new Set<PeerName>();
  const words = readList(text);
  for (const word of words ?? []) {
    const peer = parsePeerName(word);
    if (peer.ok) peers.add(peer.value);
  }
  if (words === undefined || words.some((word) => !peers.has(word as PeerName)))
    return refuse(
      subject,
      `annotation ${annotationPrefix}/peers is ${quote(text)}`,
      "use names of peers, separated by commas, or remove it to expose the Service to everyone",
    );
  return ok([...peers].sort());
}

/** The words between commas, blanks around them removed; undefined where one is empty. */
function readList(text: string): readonly string[] | undefined {
  if (text.length > longestList) return undefined;
  const words = text.split(",").map((word) => word.trim());
  return words.includes("") ? undefined : words;
}
