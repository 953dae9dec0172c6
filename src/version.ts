import manifest from "../package.json" with { type: "json" };

declare const WORMHOLE_VERSION: string | undefined;

/** Set by the build; from source it is package.json's. */
export const version: string = typeof WORMHOLE_VERSION === "string" ? WORMHOLE_VERSION : manifest.version;
