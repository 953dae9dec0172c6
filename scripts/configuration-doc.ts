import { configurationDoc } from "../src/config/docs.ts";

await Bun.write(new URL("../docs/configuration.md", import.meta.url), configurationDoc());
