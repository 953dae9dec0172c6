/**
 * Why something was turned away, in the three parts that let a reader act: what it was, which rule it met, and the
 * way out. Refusals are values: they end in `status`, in Events and in error messages, never in a stack trace.
 */
export interface Refusal {
  /** The thing that was refused, as its owner would name it: `apps.yaml:7`, `peer "client1"`, `Service shop/web`. */
  readonly subject: string;
  /** The rule it broke and the value that broke it. */
  readonly rule: string;
  /** What to do about it. */
  readonly remedy?: string;
}

/** A value, or the reason why there is none. Exceptions are for what no caller can act on. */
export type Result<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal };

export const ok = <T>(value: T): Result<T> => ({ ok: true, value });

export const refuse = (subject: string, rule: string, remedy?: string): { ok: false; refusal: Refusal } => ({
  ok: false,
  refusal: remedy === undefined ? { subject, rule } : { subject, rule, remedy },
});

/** One line for people: `app name "A": …; use …`. */
export const describe = (refusal: Refusal): string =>
  `${refusal.subject}: ${refusal.rule}${refusal.remedy === undefined ? "" : `; ${refusal.remedy}`}`;

/** The value, or an Error that says why not. For places where a refusal cannot be handled, such as start-up and tests. */
export function unwrap<T>(result: Result<T>): T {
  if (result.ok) return result.value;
  throw new Error(describe(result.refusal));
}

/** Quotes an untrusted value for a message: control characters escaped, at most 80 characters. */
export function quote(value: unknown): string {
  const shown = JSON.stringify(asText(value));
  return shown.length <= 80 ? shown : `${shown.slice(0, 76)}…"`;
}

/** `String` fails on a parsed `{"toString": 1}`, and on lists nested thousands of levels deep. */
function asText(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  return Array.isArray(value) ? "[…]" : "{…}";
}
