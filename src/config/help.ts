import { fileTwin, keys, settingOf } from "./schema.ts";
import { flagOf, groups, standardOf, variableOf, type Role, type Setting } from "./setting.ts";

/** The settings of a role for `--help`, wrapped at `width` columns. */
export function settingsHelp(role: Role, width = 100): string {
  const sections = groups.map((group) => {
    const rows = keys
      .filter((key) => settingOf(key).group === group && settingOf(key).roles.includes(role))
      .flatMap((key) => settingHelp(key, role, width));
    return [`${group}:`, ...rows].join("\n");
  });
  const config = [
    "Configuration file:",
    "  --config FILE",
    ...wrap(
      `YAML with the same settings (syncPort for --sync-port). Default: /etc/wormhole/<instance>.yaml, if it exists.`,
      6,
      width,
    ),
  ].join("\n");
  return [config, ...sections].join("\n\n");
}

function settingHelp(key: (typeof keys)[number], role: Role, width: number): string[] {
  const setting = settingOf(key);
  // Secrets are no flags: every user of the machine can read argument lists.
  const spelling =
    setting.secret === true
      ? `${flagOf(fileTwin(key))} FILE, or ${variableOf(key)}`
      : `${flagOf(key)} ${setting.placeholder}`.trim();
  const standard = describeStandard(setting, role);
  return [
    `  ${spelling}`,
    ...wrap(standard === "" ? setting.help : `${setting.help} Default: ${standard}.`, 6, width),
  ];
}

/** The default in words, for a role or, where they differ, for both. Empty where there is none to speak of. */
export function describeStandard(setting: Setting<unknown>, role?: Role): string {
  if (role === undefined && typeof setting.standard === "object") {
    const entries = setting.roles.map((each) => [each, describeStandard(setting, each)] as const);
    return entries.map(([each, text]) => `${text} (${each})`).join(", ");
  }
  const text = role === undefined ? (setting.standard as string | undefined) : standardOf(setting, role);
  if (text === undefined || text === "") return setting.standardWords ?? (text === "" ? "none" : "");
  return text;
}

function wrap(text: string, indent: number, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width - indent) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].map((each) => " ".repeat(indent) + each);
}
