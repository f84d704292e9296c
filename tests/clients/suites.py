"""What the scripts share that run other projects' own test suites: where these come from, and how they are run.

Nothing of theirs is kept here: each suite is in what its project publishes, and is fetched and built when it runs, in a
temporary directory. With RAFTLINE_SUITES=DIR it is built there and stays, for the next time.
"""

import atexit
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from harness import needs_program

# What a client says only if it and a broker understand the protocol differently.
PROTOCOL_WARNING = re.compile(
    r"PROTOERR|PROTOUFLOW|PROTOREAD|APIVERSION\||ApiVersionRequest failed|HDRERR|RECVERR|[Uu]nderflow|[Cc]orrelation"
    r"|\|BADMSG\||\|CRC|CorruptRecord|unsupported (magic|compression)|UnsupportedVersion"
)


def workplace(name):
    """An own directory, which the script's end deletes."""
    kept = os.environ.get("RAFTLINE_SUITES")
    if kept:
        directory = pathlib.Path(kept).resolve() / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"raftline-{name}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def crate(name, version, directory):
    """The source of a published crate, as a copy that can be built in."""
    copy = directory / f"{name}-{version}"
    if copy.exists():
        return copy
    needs_program("cargo", "cargo")
    asking = directory / f"{name}-asked"
    asking.mkdir(exist_ok=True)
    (asking / "lib.rs").write_text("")
    (asking / "Cargo.toml").write_text(
        f'[package]\nname = "asked"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[lib]\npath = "lib.rs"\n[dependencies]\n{name} = "={version}"\n[workspace]\n'
    )
    command = ["cargo", "metadata", "-q", "--format-version=1", "--manifest-path", asking / "Cargo.toml"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    (manifest,) = (package["manifest_path"] for package in found["packages"] if package["name"] == name)
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(pathlib.Path(manifest).parent, partial)
    # The compiler that is here is the one to build with.
    (partial / "rust-toolchain.toml").unlink(missing_ok=True)
    partial.rename(copy)
    return copy


def build(what, command, **options):
    """Runs one step of a build, whose output is shown only if it fails."""
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        print(done.stdout[-6000:])
        raise SystemExit(f"{what} cannot be built")
    print(f"built   {what} ({time.monotonic() - began:.0f} s)", flush=True)


def rust_suite(cases, crate, environment, skips, cargo=(), tests=(), seconds=900):
    """Runs a crate's tests against a broker, but for `skips`: (test, reason), each the test's whole name."""
    cargo = ["cargo", "test", "-q", *cargo, "--no-fail-fast"]
    # A build of its own, that does not wait for another's.
    environment = {**os.environ, "RUST_BACKTRACE": "0", **environment, "CARGO_TARGET_DIR": str(crate.parent / f"{crate.name}-target")}
    build(f"{crate.name}'s tests", [*cargo, "--no-run"], cwd=crate, env=environment)
    for name, reason in skips:
        cases.skip(name, reason)
    arguments = ["--", "--exact", "--test-threads=4", "--format=pretty", *sys.argv[1:]]
    for name, _ in skips:
        arguments += ["--skip", name]
    child = subprocess.run(
        [*cargo, *arguments],
        cwd=crate,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
    )
    results = re.findall(r"^test (\S+) \.\.\. (\w+)", child.stdout, re.MULTILINE)
    outputs = dict(re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |^failures:)", child.stdout, re.M | re.S))
    for name, result in results:
        failure = outputs.get(name, result).strip() if result != "ok" else None
        cases.record(name, failure and failure[-1500:])
    if child.returncode != 0 and not any(result != "ok" for _, result in results):
        cases.record("the suite ends well", child.stdout[-3000:])
    warnings = sorted({line.strip() for line in child.stdout.splitlines() if PROTOCOL_WARNING.search(line)})
    cases.record("the client has no protocol warning", "\n".join(warnings[:20]) or None)
