import { ok, quote, refuse, type Result } from "../model/result.ts";

const units: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `500ms`, `5s`, `5m`, `1h`, `30d`, `1h30m` in milliseconds, within both limits (milliseconds, inclusive). */
export function parseDuration(text: unknown, lowest = 0, highest = Number.MAX_SAFE_INTEGER): Result<number> {
  const subject = `duration ${quote(text)}`;
  const parts = typeof text === "string" ? [...text.matchAll(/([0-9]{1,9})(ms|s|m|h|d)/g)] : [];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text)
    return refuse(subject, "is no duration", "use a number with ms, s, m, h or d, such as 5s, 90m or 30d");
  const total = parts.reduce((sum, part) => sum + Number(part[1]) * units[part[2]!]!, 0);
  return total >= lowest && total <= highest
    ? ok(total)
    : refuse(subject, "is out of range", `use ${formatDuration(lowest)} to ${formatDuration(highest)}`);
}

/** The shortest exact spelling: 5000 -> `5s`, 5400000 -> `90m`. */
export function formatDuration(milliseconds: number): string {
  const unit = Object.entries(units)
    .reverse()
    .find(([, size]) => milliseconds >= size && milliseconds % size === 0);
  return unit === undefined ? `${milliseconds}ms` : `${milliseconds / unit[1]}${unit[0]}`;
}
