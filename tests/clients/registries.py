"""Makes `hello` as a package of Debian, Python, Node and Rust, and the registries that have it, below `www`."""

import base64
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile
import zipfile

WWW = pathlib.Path("www")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tar(files):
    """A gzipped tar of names and contents."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content.encode()))
    return archive.getvalue()


def apt(www):
    root = pathlib.Path("deb")
    write(root / "usr/share/hello/greeting", "hello from apt\n")
    write(
        root / "DEBIAN/control",
        "Package: sbx-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: Tester <tester@example.org>\nDescription: hello\n",
    )
    os.makedirs(www / "pool")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, www / "pool/sbx-hello_1.0_all.deb"], check=True)
    index = lambda *words: subprocess.run(["apt-ftparchive", *words], cwd=www, check=True, capture_output=True).stdout
    write(www / "Packages", index("packages", "pool"))
    write(www / "Release", index("release", "."))


def pip(www):
    info = "sbx_hello-1.0.dist-info"
    files = {
        "sbx_hello.py": "print('hello from pip')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: sbx-hello\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    name = "sbx_hello-1.0-py3-none-any.whl"
    write(www / "files" / name, wheel.getvalue())
    digest = hashlib.sha256(wheel.getvalue()).hexdigest()
    write(www / "simple/sbx-hello/index.html", f'<!DOCTYPE html><a href="/files/{name}#sha256={digest}">{name}</a>\n')


def npm(www):
    package = {"name": "sbx-hello", "version": "1.0.0", "main": "index.js"}
    packed = tar({"package/package.json": json.dumps(package), "package/index.js": "console.log('hello from npm')\n"})
    write(www / "files/sbx-hello-1.0.0.tgz", packed)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    dist = {"tarball": "https://npm.example.org/files/sbx-hello-1.0.0.tgz", "integrity": integrity}
    document = {
        "name": "sbx-hello",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {**package, "dist": dist}},
    }
    write(www / "sbx-hello", json.dumps(document))


def crates(www):
    manifest = '[package]\nname = "sbx-hello"\nversion = "1.0.0"\nedition = "2021"\n'
    source = 'pub fn greeting() -> &\'static str { "hello from crates" }\n'
    packed = tar({"sbx-hello-1.0.0/Cargo.toml": manifest, "sbx-hello-1.0.0/src/lib.rs": source})
    write(www / "files/sbx-hello-1.0.0.crate", packed)
    entry = {
        "name": "sbx-hello",
        "vers": "1.0.0",
        "deps": [],
        "cksum": hashlib.sha256(packed).hexdigest(),
        "features": {},
        "yanked": False,
    }
    write(www / "index/sb/x-/sbx-hello", json.dumps(entry) + "\n")
    write(www / "index/config.json", json.dumps({"dl": "https://crates.example.org/files/{crate}-{version}.crate"}))


for make in (apt, pip, npm, crates):
    make(WWW / f"{make.__name__}.example.org")
