"""Checks licences, bans and sources of all dependencies against deny.toml, without cargo-deny.

cargo-deny takes minutes to build and Debian does not have it; this reads the same file and needs Python alone."""

import json
import re
import subprocess
import sys
import tomllib

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"

with open("deny.toml", "rb") as file:
    rules = tomllib.load(file)
metadata = ["cargo", "metadata", "--format-version", "1", "--locked"]
for target in rules["graph"]["targets"]:
    metadata += ["--filter-platform", target]
packages = json.loads(subprocess.run(metadata, check=True, stdout=subprocess.PIPE).stdout)["packages"]
allowed = set(rules["licenses"]["allow"])
banned = {ban["name"]: ban["reason"] for ban in rules["bans"]["deny"]}


def acceptable(expression):
    """Whether an SPDX expression holds when exactly the allowed licences are true."""
    terms = re.findall(r"\(|\)|\bAND\b|\bOR\b|/|[\w.+-]+(?: WITH [\w.-]+)?", expression)
    words = {"(": "(", ")": ")", "AND": "and", "OR": "or", "/": "or"}
    return bool(terms) and eval(" ".join(words.get(term, str(term in allowed)) for term in terms), {"__builtins__": {}})


problems = []
for package in packages:
    name = f"{package['name']} {package['version']}"
    if package["name"] in banned:
        problems.append(f"{name} is banned: {banned[package['name']]}")
    if package["source"] is None:
        continue
    if package["source"] != CRATES_IO:
        problems.append(f"{name} comes from {package['source']}")
    if not acceptable(package["license"] or ""):
        problems.append(f"{name} has the licence {package['license']!r}, which deny.toml does not allow")
print("\n".join(problems) or f"{len(packages)} packages: licences, bans and sources as deny.toml says")
sys.exit(bool(problems))
