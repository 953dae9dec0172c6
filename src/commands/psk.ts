import { readFileSync } from "node:fs";
import { usageError } from "./command.ts";
import { operatorCommand, printJson } from "./operator.ts";

export const psk = operatorCommand({
  name: "psk",
  summary: "Show or rotate the PSK that clients pair with.",
  usage: ["psk show", "psk rotate [--psk-file FILE]", "psk rotate --finish"],
  words: [1, 1],
  options: {
    finish: { help: "End the old PSK: every client has the new one." },
    "psk-file": { placeholder: "FILE", help: "Take the new PSK from this file, - for standard input." },
  },
  notes: [
    "rotate makes a new PSK and keeps the one before it valid, so that clients can be moved one by one.",
    "show, and rotate without --finish, print the PSK alone on standard output.",
  ].join("\n"),
  async act({ admin, io, json, arguments: { words, flags } }) {
    const [verb] = words;
    if (verb === "show") {
      const answer = await admin.get<{ readonly psk: string }>("/v1/psk");
      return json ? printJson(io, answer) : io.print(answer.psk);
    }
    if (verb !== "rotate") throw usageError("use wormhole psk show or psk rotate");
    const file = flags.get("psk-file");
    if (flags.has("finish") && file !== undefined) throw usageError("use --finish or --psk-file, not both");
    const answer = await admin.send<{ readonly psk?: string; readonly notice: string }>(
      "POST",
      "/v1/psk/rotate",
      flags.has("finish") ? { finish: true } : file === undefined ? {} : { psk: read(file) },
    );
    if (json) return printJson(io, answer);
    if (answer.psk === undefined) return io.print(answer.notice);
    io.complain(answer.notice);
    io.print(answer.psk);
  },
});

function read(file: string): string {
  try {
    return readFileSync(file === "-" ? "/dev/stdin" : file, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    throw usageError(`--psk-file: cannot read ${file}: ${(error as Error).message}`);
  }
}
