"""The published sources of the Zentinel proxy, of zentinel-agent-sdk and of the tests of
zentinel-agent-protocol, with tollgate under them.

Shared by the scripts that test and measure them. Everything is in target/zentinel.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "zentinel"
BUILD = WORK / "build"
PATCH = ROOT / "crates" / "zentinel" / "patch"
PROXY = ("zentinel-proxy", "0.6.54")
SDK = ("zentinel-agent-sdk", "0.3.0")
CRATE = "zentinel-agent-protocol"
PROTOCOL = (CRATE, "0.6.54")
# The crates on which the packages run, and what their manifests get for it. tollgate is a
# dependency in both cases, so that most dependencies in common have the same features and are
# compiled once.
ADDITIONS = {
    "tollgate": f"""
[patch.crates-io]
{CRATE} = {{ path = "{PATCH}" }}
""",
    "published": f"""
[dependencies.tollgate_zentinel]
package = "tollgate-zentinel"
path = "{PATCH.parent}"
""",
}
VARIANTS = tuple(ADDITIONS)
# The packages declare a newer compiler than this repository uses, and do not need it.
ANY_COMPILER = "--ignore-rust-version"
# The agent that is measured, as another program of the proxy's package. It needs no dependency that
# the proxy does not have.
AGENT = "delayed_agent"
PROGRAM = f"""
[[bin]]
name = "{AGENT}"
path = "{ROOT / "crates" / "zentinel" / "examples" / AGENT}.rs"
"""
# The profile for tests in this repository, so that both have dependencies in common.
PROFILE = """
[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
debug = false
"""


def cargo(arguments, folder):
    """Runs cargo and returns its exit status and what it prints."""
    environment = {
        **os.environ,
        # One target folder, as the packages have most of their dependencies in common.
        "CARGO_TARGET_DIR": str(BUILD),
        "CARGO_INCREMENTAL": "0",
    }
    done = subprocess.run(
        ["cargo", *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True,
        check=False,
    )
    return done.returncode, done.stdout


def fetch(*wanted):
    """Fetches published packages, and returns their folders in their order."""
    folder = WORK / "fetch"
    write_package(folder, "fetch", [f'{name} = "={version}"' for name, version in wanted])
    status, text = cargo(["metadata", "--format-version", "1"], folder)
    if status != 0:
        sys.exit("cannot fetch the published sources")
    folders = {
        package["name"]: Path(package["manifest_path"]).parent
        for package in json.loads(text)["packages"]
    }
    return [folders[name] for name, _ in wanted]


def write_package(folder, name, dependencies, rest=""):
    """Writes a package without code."""
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "lib.rs").touch()
    (folder / "Cargo.toml").write_text(
        # The edition in which cargo chooses dependencies as it does for the published packages.
        f'[package]\nname = "{name}"\nedition = "2021"\n\n'
        + "\n".join(["[dependencies]", *dependencies])
        + f"\n\n[workspace]\n{rest}"
    )


def prepare(source, variant):
    """Copies a package, and puts tollgate under it unless the published crate is wanted."""
    folder = WORK / variant / source.name
    if folder.exists():
        return folder
    shutil.copytree(source, folder)
    # Its lock file would keep the published crate.
    (folder / "Cargo.lock").unlink(missing_ok=True)
    (folder / ".cargo-ok").unlink(missing_ok=True)
    # The proxy's build script watches these, and is run every time if they are missing.
    (folder / ".git" / "refs" / "tags").mkdir(parents=True)
    (folder / ".git" / "HEAD").touch()
    with (folder / "Cargo.toml").open("a") as manifest:
        manifest.write(PROFILE + "\n[workspace]\n")
        if source.name.startswith(PROXY[0]):
            manifest.write(PROGRAM)
        manifest.write(ADDITIONS[variant])
    return folder


def prepare_tests(source, variant):
    """Copies the tests of the protocol crate into a package that depends on it."""
    folder = WORK / variant / "protocol-tests"
    dependencies = (
        'bytes = "1"', 'serde_json = "1"', 'tempfile = "3"',
        'tokio = { version = "1", features = ["full"] }', f'{CRATE} = "={PROTOCOL[1]}"',
    )
    write_package(folder, "protocol-tests", dependencies, PROFILE + ADDITIONS[variant])
    shutil.copytree(source / "tests", folder / "tests", dirs_exist_ok=True)
    return folder
