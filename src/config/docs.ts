import { describeStandard } from "./help.ts";
import { fileTwin, keys, settingOf, type Key } from "./schema.ts";
import { flagOf, groups, variableOf } from "./setting.ts";

const introduction = `# Configuration

<!-- Made from src/config/schema.ts by \`bun scripts/configuration-doc.ts\`; change it there. -->

Every setting has one name and three spellings: \`syncPort\` in the YAML file, \`WORMHOLE_SYNC_PORT\` as a variable,
\`--sync-port\` as a flag. A flag is stronger than a variable, a variable than the file, the file than the default; of
several equal flags the last one counts. \`--network-policies\` alone means true, \`--no-network-policies\` false.

The file is the one that \`--config\` or \`WORMHOLE_CONFIG\` names, else \`/etc/wormhole/<instance>.yaml\` if it exists; the
instance is the role unless \`instance\` says otherwise. Lists are YAML lists, or texts with commas between; in flags and
variables always the latter. Durations are numbers with \`ms\`, \`s\`, \`m\`, \`h\` or \`d\`. An empty variable counts as not set.

Unknown settings are refused, with the nearest known one, and all problems are reported at once. \`wormhole server
--print-config\` shows the configuration in force and where each value comes from.

Secrets are never flags, because every user of a machine can read its process list. Each has a twin that names a file
(\`pskFile\` for \`psk\`); a newline at the file's end is dropped.

The original wormhole's variables \`INVITE_TOKEN\`, \`CLIENT_METADATA\`, \`BASIC_AUTH_USERNAME\` and \`BASIC_AUTH_PASSWORD\`
are accepted with a warning.
`;

/** docs/configuration.md, as a whole. */
export const configurationDoc = (): string =>
  [introduction, ...groups.map((group) => `## ${group}\n\n${ofGroup(group)}`)].join("\n");

const ofGroup = (group: string): string =>
  keys
    .filter((key) => settingOf(key).group === group)
    .map(entry)
    .join("\n");

function entry(key: Key): string {
  const setting = settingOf(key);
  const { roles, placeholder, secret, legacy } = setting;
  const value = placeholder === "" ? "true|false" : placeholder;
  const spellings =
    secret === true
      ? `\`${variableOf(key)}\`, or \`${fileTwin(key)}\`, \`${variableOf(fileTwin(key))}\`, \`${flagOf(fileTwin(key))}\` with a file`
      : `\`${flagOf(key)}\`, \`${variableOf(key)}\``;
  const standard = describeStandard(setting);
  const lines = [
    `### ${key}`,
    "",
    setting.help,
    "",
    `- Value: \`${value}\``,
    `- Also: ${spellings}`,
    ...(standard === "" ? [] : [`- Default: ${standard.includes(" ") ? standard : `\`${standard}\``}`]),
    ...(roles.length === 1 ? [`- Only on a ${roles[0]}`] : []),
    ...(legacy === undefined ? [] : [`- Once called \`${legacy}\``]),
  ];
  return `${lines.join("\n")}\n`;
}
