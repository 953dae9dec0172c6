import type { Logger } from "../system/log.ts";
import { KubeError } from "./api.ts";

/** What the API server forbids us, for `status`; each is logged once. */
export interface Permissions {
  /** Notes a refusal (403) and says whether it was one. `where`: a namespace; absent: all of them. */
  note(problem: unknown, verb: string, resource: string, where?: string): boolean;
  granted(verb: string, resource: string, where?: string): void;
  /** Such as `create events in namespace shop`, sorted. */
  missing(): readonly string[];
}

export function createPermissions(logger: Logger): Permissions {
  const missing = new Set<string>();
  const name = (verb: string, resource: string, where?: string): string =>
    `${verb} ${resource} ${where === undefined ? "in all namespaces" : `in namespace ${where}`}`;
  return {
    note: (problem, verb, resource, where) => {
      if (!(problem instanceof KubeError) || problem.status !== 403) return false;
      const permission = name(verb, resource, where);
      if (!missing.has(permission))
        logger.warn("Kubernetes permission is missing, the rest goes on", { permission, problem });
      missing.add(permission);
      return true;
    },
    granted: (verb, resource, where) => {
      const permission = name(verb, resource, where);
      if (missing.delete(permission)) logger.info("Kubernetes permission was given", { permission });
    },
    missing: () => [...missing].sort(),
  };
}
