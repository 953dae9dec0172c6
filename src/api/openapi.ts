import { openapi } from "@elysiajs/openapi";

/**
 * The document alone, at /openapi/json, made from the routes' own schemas. The plugin's page would load its script
 * from a CDN, which neither a cluster without internet nor a careful operator wants.
 */
export const openApiDocument = (version: string) =>
  openapi({
    path: "/openapi",
    specPath: "/openapi/json",
    provider: null,
    exclude: { paths: ["/openapi", "/openapi/json"] },
    documentation: {
      info: {
        title: "wormhole",
        version,
        description: "What a wormhole server or client exposes and reaches. Reading needs no authentication.",
      },
      components: { securitySchemes: { basic: { type: "http", scheme: "basic" } } },
    },
  });
