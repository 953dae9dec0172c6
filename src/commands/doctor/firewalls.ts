import { fine, skip, warn, type Check, type Finding, type Machine, type Patient } from "./check.ts";

export const firewallChecks: readonly Check[] = [{ name: "other firewalls", examine: examineFirewalls }];

/**
 * Others' rules that may drop what wormhole needs. Whether they do cannot be told from outside of them: a warning
 * names who is there and what must get through.
 */
async function examineFirewalls(patient: Patient): Promise<Finding> {
  const { machine } = patient;
  const found = [
    await ufw(machine),
    await firewalld(machine),
    ...(await nftables(machine)),
    await legacy(machine),
  ];
  const active = found.filter((each) => each !== undefined);
  if (active.length > 0) return warn(`there is ${active.join(", ")}`, `let through: ${needed(patient)}`);
  return machine.uid === 0 ? fine("none that drops what arrives") : skip("only root sees them");
}

function needed({ config }: Patient): string {
  if (config?.role !== "server") return "UDP to the server's WireGuard port, TCP to its pairing address";
  return `UDP ${config.wireguardPort ?? 51820} and TCP ${config.pairingAddress.port}, and TCP on ${config.interface}`;
}

async function ufw(machine: Machine): Promise<string | undefined> {
  if (machine.which("ufw") === undefined) return undefined;
  return /^Status: active/m.test((await machine.run(["ufw", "status"]))?.stdout ?? "") ? "ufw" : undefined;
}

async function firewalld(machine: Machine): Promise<string | undefined> {
  if (machine.which("firewall-cmd") === undefined) return undefined;
  return (await machine.run(["firewall-cmd", "--state"]))?.code === 0 ? "firewalld" : undefined;
}

async function nftables(machine: Machine): Promise<string[]> {
  const ran = await machine.run(["nft", "-j", "list", "chains"]);
  return ran?.code === 0 ? droppingChains(ran.stdout) : [];
}

async function legacy(machine: Machine): Promise<string | undefined> {
  if (machine.which("iptables-legacy") === undefined) return undefined;
  const rules = (await machine.run(["iptables-legacy", "-S", "INPUT"]))?.stdout ?? "";
  return /^-P INPUT DROP/m.test(rules) ? "an iptables INPUT policy of drop" : undefined;
}

interface Chain {
  readonly family?: string;
  readonly table?: string;
  readonly name?: string;
  readonly hook?: string;
  readonly policy?: string;
}

/** Chains of others that see what arrives and drop it unless a rule says otherwise, from `nft -j list chains`. */
export function droppingChains(json: string): string[] {
  let parsed: { readonly nftables?: readonly { readonly chain?: Chain }[] };
  try {
    parsed = JSON.parse(json) as typeof parsed;
  } catch {
    return [];
  }
  return (parsed.nftables ?? []).flatMap(({ chain }) =>
    (chain?.hook === "input" || chain?.hook === "prerouting") &&
    chain.policy === "drop" &&
    chain.table?.startsWith("wormhole_") !== true
      ? [`nft chain ${chain.family} ${chain.table} ${chain.name} with policy drop`]
      : [],
  );
}
