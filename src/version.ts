declare const WORMHOLE_VERSION: string | undefined;

/** package.json's, put in by scripts/build.ts. */
export const version: string = typeof WORMHOLE_VERSION === "string" ? WORMHOLE_VERSION : "development";
