import { createLab, type Lab } from "../support/lab.ts";
import { serve } from "../support/services.ts";
import { Wormhole, type App, type Settings } from "../support/wormhole.ts";

export const psk = "a-psk-for-tests-0123456789";
export const serverUrl = "http://server:8080";

/** A server and two clients, a site with real services behind each, and a stranger on the internet. */
export interface Sites {
  readonly lab: Lab;
  readonly server: Wormhole;
  readonly client1: Wormhole;
  readonly client2: Wormhole;
}

export interface SitesOptions {
  readonly settings?: Settings;
  readonly server?: Settings;
  readonly client?: Settings;
  readonly apps?: Partial<Record<"server" | "client1" | "client2", readonly App[]>>;
}

/** Behind the server there is `intranet`, behind client1 `shop`, behind client2 `office`: web, echo and UDP echo. */
export const services = { web: 80, echo: 7000, dns: 5353 } as const;

export const appsOf = (site: string): readonly App[] => [
  { name: "web", address: `${site}:${services.web}` },
  { name: "echo", address: `${site}:${services.echo}` },
  { name: "dns", address: `${site}:${services.dns}`, protocol: "udp" },
];

export async function createSites(): Promise<Lab> {
  const lab = await createLab(["server", "client1", "client2", "stranger"], {
    sites: { intranet: "server", shop: "client1", office: "client2" },
  });
  await Promise.all(
    ["intranet", "shop", "office"].map((name) =>
      serve(
        lab.host(name),
        `http:${services.web}:Hello from ${name}`,
        `tcp:${services.echo}`,
        `udp:${services.dns}`,
      ),
    ),
  );
  return lab;
}

export const startServer = (
  lab: Lab,
  settings: Settings = {},
  apps = appsOf("intranet"),
): Promise<Wormhole> => Wormhole.start(lab.host("server"), "server", { psk, ...settings }, apps);

export const startClient = (
  lab: Lab,
  name: string,
  settings: Settings = {},
  apps: readonly App[] = [],
): Promise<Wormhole> =>
  Wormhole.start(lab.host(name), "client", { name, psk, server: serverUrl, ...settings }, apps);

/** Everything started and every client connected. */
export async function startSites(options: SitesOptions = {}): Promise<Sites> {
  const lab = await createSites();
  try {
    const { settings, apps } = options;
    const server = await startServer(
      lab,
      { ...settings, ...options.server },
      apps?.server ?? appsOf("intranet"),
    );
    const clientSettings = { ...settings, ...options.client };
    const [client1, client2] = await Promise.all([
      startClient(lab, "client1", clientSettings, apps?.client1 ?? appsOf("shop")),
      startClient(lab, "client2", clientSettings, apps?.client2 ?? appsOf("office")),
    ]);
    await Promise.all([server.connected("client1"), server.connected("client2")]);
    return { lab, server, client1, client2 };
  } catch (error) {
    await lab.close();
    throw error;
  }
}
