// The schema under a strict validator.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import Ajv from "ajv";
import { parse } from "yaml";

import { schema } from "./client.js";

const validate = new Ajv({ strict: true, allErrors: true }).compile(schema);

const fixtures = new URL("../../fixtures/", import.meta.url);
const read = (path) => parse(readFileSync(new URL(path, fixtures), "utf8"));

for (const name of readdirSync(new URL("valid/", fixtures))) {
  test(`${name} is valid`, () => {
    assert.ok(validate(read(`valid/${name}`)), JSON.stringify(validate.errors, null, 2));
  });
}

const STRUCTURAL = ["unknown-field", "not-available", "wrong-type", "missing-field", "conflicting-fields", "unsupported-version", "invalid-name"];
for (const name of STRUCTURAL) {
  test(`${name}.yaml is not valid`, () => {
    assert.equal(validate(read(`invalid/${name}.yaml`)), false);
  });
}
