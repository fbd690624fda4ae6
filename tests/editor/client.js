// A language client: what an editor says to yaml-language-server, and what it hears.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const schemaPath = fileURLToPath(new URL("../../schema/sandboxes.schema.json", import.meta.url));
export const schema = JSON.parse(readFileSync(schemaPath, "utf8"));

const SERVER = fileURLToPath(new URL("node_modules/yaml-language-server/bin/yaml-language-server", import.meta.url));
const DEADLINE = 20_000;

export class Client {
  #child = spawn(process.execPath, [SERVER, "--stdio"], { stdio: ["pipe", "pipe", "inherit"] });
  #buffer = Buffer.alloc(0);
  #pending = new Map();
  #diagnostics = new Map();
  #next = 1;

  static async start() {
    const client = new Client();
    client.#child.stdout.on("data", (chunk) => client.#receive(chunk));
    await client.request("initialize", {
      processId: process.pid,
      rootUri: null,
      capabilities: {
        textDocument: { hover: { contentFormat: ["plaintext"] }, completion: { completionItem: {} } },
        workspace: { configuration: true },
      },
    });
    client.#notify("initialized", {});
    return client;
  }

  // Opens a document; gives the problems the server sees in it.
  async open(uri, text) {
    const diagnostics = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no diagnostics for ${uri}`)), DEADLINE);
      this.#diagnostics.set(uri, (found) => (clearTimeout(timer), resolve(found)));
    });
    this.#notify("textDocument/didOpen", { textDocument: { uri, languageId: "yaml", version: 1, text } });
    return diagnostics;
  }

  request(method, params) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${method}`)), DEADLINE);
      this.#pending.set(id, (message) => {
        clearTimeout(timer);
        message.error ? reject(new Error(message.error.message)) : resolve(message.result);
      });
      this.#send({ id, method, params });
    });
  }

  stop() {
    this.#child.kill();
  }

  #notify(method, params) {
    this.#send({ method, params });
  }

  #send(message) {
    const body = JSON.stringify({ jsonrpc: "2.0", ...message });
    this.#child.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  }

  #receive(chunk) {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    for (;;) {
      const end = this.#buffer.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = Number(/Content-Length: (\d+)/i.exec(this.#buffer.subarray(0, end).toString())[1]);
      if (this.#buffer.length < end + 4 + length) return;
      const message = JSON.parse(this.#buffer.subarray(end + 4, end + 4 + length).toString());
      this.#buffer = this.#buffer.subarray(end + 4 + length);
      this.#handle(message);
    }
  }

  #handle(message) {
    if (message.method === "workspace/configuration") {
      // Nothing from the network: the schema is the committed one.
      const yaml = { schemas: { [`file://${schemaPath}`]: "*.yaml" }, schemaStore: { enable: false }, completion: true, hover: true, validate: true };
      this.#send({ id: message.id, result: message.params.items.map(({ section }) => (section === "yaml" ? yaml : {})) });
    } else if (message.method === "textDocument/publishDiagnostics") {
      this.#diagnostics.get(message.params.uri)?.(message.params.diagnostics);
    } else if (message.method && message.id !== undefined) {
      this.#send({ id: message.id, result: null });
    } else if (message.id !== undefined) {
      this.#pending.get(message.id)?.(message);
      this.#pending.delete(message.id);
    }
  }
}
