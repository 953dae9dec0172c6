export type Level = "debug" | "info" | "warn" | "error";
export type Fields = Readonly<Record<string, unknown>>;

/** Structured lines: one event each, what happened in a fixed sentence and to whom in the fields. */
export interface Logger {
  debug(event: string, fields?: Fields): void;
  info(event: string, fields?: Fields): void;
  warn(event: string, fields?: Fields): void;
  error(event: string, fields?: Fields): void;
  /** The same logger with fields that every line carries. */
  with(fields: Fields): Logger;
}

const order: readonly Level[] = ["debug", "info", "warn", "error"];
const colours: Readonly<Record<Level, string>> = {
  debug: "\x1b[2m",
  info: "",
  warn: "\x1b[33m",
  error: "\x1b[31m",
};

export interface LogOptions {
  readonly level: Level;
  /** `auto`: text on a terminal, JSON elsewhere. */
  readonly format: "auto" | "json" | "text";
  /** Gets one line without its newline. Default: stderr, so that stdout stays a command's own. */
  readonly write?: (line: string) => void;
}

export function createLogger(options: LogOptions): Logger {
  const terminal = process.stderr.isTTY;
  const text = options.format === "text" || (options.format === "auto" && terminal);
  const write = options.write ?? ((line: string) => void process.stderr.write(`${line}\n`));
  const lowest = order.indexOf(options.level);
  const make = (base: Fields): Logger => {
    const emit = (level: Level, event: string, fields?: Fields): void => {
      if (order.indexOf(level) < lowest) return;
      const all = { ...base, ...fields };
      write(text ? asText(level, event, all, terminal) : asJson(level, event, all));
    };
    return {
      debug: (event, fields) => emit("debug", event, fields),
      info: (event, fields) => emit("info", event, fields),
      warn: (event, fields) => emit("warn", event, fields),
      error: (event, fields) => emit("error", event, fields),
      with: (fields) => make({ ...base, ...fields }),
    };
  };
  return make({});
}

const asJson = (level: Level, event: string, fields: Fields): string =>
  harmless(JSON.stringify({ time: new Date().toISOString(), level, event, ...plain(fields) }));

function asText(level: Level, event: string, fields: Fields, colour: boolean): string {
  const pairs = Object.entries(plain(fields)).map(
    ([key, value]) =>
      `${key}=${typeof value === "string" && /^[\w./:@+-]+$/.test(value) ? value : harmless(JSON.stringify(value))}`,
  );
  const line = [new Date().toISOString().slice(11, 23), level.padEnd(5), event, ...pairs].join(" ");
  return colour && colours[level] !== "" ? `${colours[level]}${line}\x1b[0m` : line;
}

/**
 * JSON's own escapes end at U+001F. What others say may also steer a terminal by C1 controls, or make a line read
 * otherwise than it is by format characters (UAX #9): both become escapes, which JSON reads back.
 */
const harmless = (json: string): string =>
  json.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    // Characters beyond the first plane are two units, and JSON escapes each.
    [...Array(character.length).keys()]
      .map((unit) => `\\u${character.charCodeAt(unit).toString(16).padStart(4, "0")}`)
      .join(""),
  );

/** Errors become their message: a stack may hold argument values, and a log line is read by people. */
const plain = (fields: Fields): Fields =>
  Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, value instanceof Error ? value.message : value]),
  );

/** For tests and for parts that were given none. */
export const silentLogger: Logger = createLogger({ level: "error", format: "json", write: () => undefined });
