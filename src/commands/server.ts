import { roleCommand } from "./role.ts";

export const server = roleCommand(
  "server",
  "Run the hub that clients pair with.",
  async () => (await import("../server/role.ts")).runServer,
);
