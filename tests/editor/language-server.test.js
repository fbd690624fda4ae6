// What somebody sees who edits a file with mistakes, through the language server's own protocol.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { Client } from "./client.js";

const uri = "file:///project/sandboxes.yaml";
const text = readFileSync(new URL("mistakes.yaml", import.meta.url), "utf8");
let client;
let diagnostics;

before(async () => {
  client = await Client.start();
  diagnostics = await client.open(uri, text);
});
after(() => client.stop());

// The place of the first character of `needle`, `offset` further on.
function place(needle, offset = 0) {
  const before = text.slice(0, text.indexOf(needle) + offset).split("\n");
  return { line: before.length - 1, character: before.at(-1).length };
}

async function hover(needle) {
  const found = await client.request("textDocument/hover", { textDocument: { uri }, position: place(needle, 1) });
  return [found?.contents].flat().map((part) => part?.value ?? part).join("\n");
}

async function completion(position) {
  const found = await client.request("textDocument/completion", { textDocument: { uri }, position });
  return (found.items ?? found).map((item) => item.label);
}

test("mistakes are marked where they are", () => {
  const marked = (needle) => {
    const { line, character } = place(needle);
    return diagnostics.filter(({ range }) => range.start.line === line && range.start.character === character);
  };
  for (const [needle, message] of [
    ["imagee:", /imagee.*not allowed/],
    ["allways", /missing.*always.*never/s],
    ["sleep infinity", /array/],
    ["alowlist", /none.*open/s],
    ["port: 443", /port.*not allowed/],
    ["ssh }", /tls.*tcp/s],
    ["{ secrte", /Incorrect type/],
    ["4GB", /pattern/],
    ["yes }", /boolean/],
  ]) {
    assert.ok(marked(needle).some((d) => message.test(d.message)), `${needle}: ${JSON.stringify(diagnostics, null, 2)}`);
  }
});

test("nothing else is marked", () => {
  const lines = new Set(diagnostics.map(({ range }) => range.start.line));
  const wrong = ["app: {", "allways", "imagee", "sleep", "alowlist", "port: 443", "ssh }", "secrte", "4GB", "target: /srv", "yes }"].map((n) => place(n).line);
  assert.deepEqual([...lines].filter((line) => !wrong.includes(line)), []);
});

test("hovering explains a field", async () => {
  assert.match(await hover("image: host"), /root filesystem/);
  assert.match(await hover("memory:"), /Memory: bytes, a number with/);
  assert.match(await hover("egress:"), /What leaves the sandbox/);
  assert.match(await hover("target:"), /Absolute path inside/);
  assert.match(await hover("allow:"), /What may be reached/);
  assert.match(await hover("host: a.example"), /Which hosts/);
});

test("completion offers the fields that are missing, and values", async () => {
  const end = { line: text.split("\n").length - 2, character: 4 };
  const fields = await completion(end);
  for (const field of ["command", "mounts", "worktrees", "egress", "security", "replicas"]) {
    assert.ok(fields.includes(field), `${field}: ${fields}`);
  }
  assert.ok(!fields.includes("image"), "a field that is there is not offered again");
  assert.ok(!fields.includes("runtimes"), "a field that is not available is not offered");

  const modes = await completion(place("alowlist"));
  for (const mode of ["allowlist", "none", "open", "direct"]) {
    assert.ok(modes.includes(mode), `${mode}: ${modes}`);
  }
});
