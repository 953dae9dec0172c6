import { roleCommand } from "./role.ts";

export const client = roleCommand(
  "client",
  "Run a spoke that pairs with a server.",
  async () => (await import("../client/role.ts")).runClient,
);
