/** What annotations and labels of wormhole begin with; users of earlier versions rely on it. */
export const annotationPrefix = "wormhole.glothriel.github.com";

/** Names of labels. */
export const labels = {
  exposedBy: `${annotationPrefix}/exposed-by`,
  exposedApp: `${annotationPrefix}/exposed-app`,
  exposedPeer: `${annotationPrefix}/exposed-peer`,
  active: `${annotationPrefix}/active`,
  consumes: `${annotationPrefix}/network-policy-consumes-app`,
} as const;

/** The value of `exposed-by` on everything that wormhole makes. */
export const exposedBy = "wormhole";
