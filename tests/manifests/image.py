#!/usr/bin/env python3
"""Builds what the Dockerfile builds, without Docker, into a folder, and runs it there as the image would be run.

    image.py ROOT [--binary FILE]

Each stage's instructions are read from the Dockerfile. The build stage runs in a copy of what .dockerignore lets through, with
this machine's packages; --binary puts a binary that exists in the place of what it would build. The last stage's base image is
replaced by what it brings: this machine's C library, the authorities and the user. An instruction that this script does not
know is a fault, and so is a library that the base image lacks. Runs as root, with sudo, or in a user namespace.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
# The shared libraries of gcr.io/distroless/cc.
LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6"}
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
DEADLINE_S = 60


def instructions():
    """The Dockerfile's instructions as (name, rest); comments are gone, lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n", " ", text)
    return [tuple(line.strip().split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def stages():
    found = []
    for name, rest in instructions():
        if name == "FROM":
            base, *alias = rest.split(" AS ")
            found.append({"base": base, "name": alias[0] if alias else "", "steps": []})
        else:
            found[-1]["steps"].append((name, rest))
    return found


def context(folder):
    """Copies what .dockerignore, which names exceptions from everything, lets through."""
    lines = [line.strip() for line in (REPOSITORY / ".dockerignore").read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines[0] != "*" or any(not line.startswith("!") for line in lines[1:]):
        sys.exit(".dockerignore is more than exceptions from everything")
    for line in lines[1:]:
        source = REPOSITORY / line[1:]
        if source.is_dir():
            shutil.copytree(source, folder / line[1:], symlinks=True, ignore=shutil.ignore_patterns("target"))
        elif source.exists():
            shutil.copy2(source, folder / line[1:])


def build(stage, scratch, binary):
    """Runs the build stage; returns the folder that stands for its root."""
    root, where = scratch / "build", scratch / "build"
    root.mkdir()
    for name, rest in stage["steps"]:
        if name == "WORKDIR":
            where = root / rest.lstrip("/")
            where.mkdir(parents=True)
        elif (name, rest) == ("COPY", ". ."):
            context(where)
        elif name == "RUN":
            command = re.sub(r"--mount=\S+\s*", "", rest).replace("/out/", f"{root}/out/")
            if "apt-get install" in command:
                packages = re.search(r"install\s+(?:-\S+\s+)*([\w\s-]+?)\s*&&", command)[1].split()
                lacking = [package for package in packages if not shutil.which(package)]
                if lacking and not binary:
                    sys.exit(f"the build needs {lacking}")
                continue
            if binary:
                # The build's result is there; what follows it, the installation, runs.
                check_context(where)
                cargo, *then = command.split("&&")
                if "cargo build" not in cargo:
                    sys.exit(f"no `cargo build` in {command}")
                built = re.search(r"--profile (\w+)", cargo)[1]
                (where / "target" / built).mkdir(parents=True)
                shutil.copy2(binary, where / "target" / built / "signalbox")
                command = "&&".join(then)
            subprocess.run(["bash", "-euc", command], cwd=where, check=True)
        else:
            sys.exit(f"the build stage has {name} {rest}")
    return root, where


def check_context(where):
    """Fails unless the context has what Cargo reads: the workspace's manifests and targets, and what sources include."""
    metadata = ["cargo", "metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"]
    packages = json.loads(subprocess.run(metadata, cwd=where, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    needed = [pathlib.Path(target["src_path"]) for package in packages for target in package["targets"]]
    for source in (where / "src").rglob("*.rs"):
        included = re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text())
        needed += [source.parent / name for name in included]
    lacking = [str(path) for path in needed if not path.exists()]
    if lacking:
        sys.exit(f".dockerignore lets not through what is built: {lacking}")


def finish(stage, built, where, root):
    """Puts the last stage's files into `root`; returns how the image is run."""
    run = {}
    base_files(built, root)
    for name, rest in stage["steps"]:
        if name == "COPY":
            *options, source, target = shlex.split(rest)
            origin = built if options else where
            place(origin / source.lstrip("/"), root / target.lstrip("/"))
        elif name in ("ENTRYPOINT", "CMD"):
            run[name] = json.loads(rest)
        elif name in ("USER", "STOPSIGNAL"):
            run[name] = rest
        elif name not in ("LABEL", "EXPOSE"):
            sys.exit(f"the last stage has {name} {rest}")
    return run


def place(source, target):
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def base_files(built, root):
    """What the base image brings."""
    [binary] = [path for path in (built / "out").rglob("*") if path.is_file()]
    linked = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    for name, path in re.findall(r"^\s*(\S+)(?: => (\S+))? \(", linked, re.MULTILINE):
        if name.startswith("linux-vdso"):
            continue
        if not name.startswith("/") and name not in LIBRARIES:
            sys.exit(f"the binary needs {name}, which the base image lacks")
        path = path or name
        place(pathlib.Path(path).resolve(), root / path.lstrip("/"))
    place(pathlib.Path("/") / AUTHORITIES, root / AUTHORITIES)
    (root / "etc/passwd").write_text("nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def try_out(root, run):
    """Runs the image's command with the shipped files, waits until it is ready, and stops it as Docker would."""
    place(REPOSITORY / "k8s/base/config", root / "etc/signalbox")
    user = run["USER"]
    if user.split(":")[0] in ("0", "root"):
        sys.exit("the image runs as root")
    inside = ["chroot", f"--userspec={user}", str(root)]
    if os.geteuid() != 0:
        can_sudo = shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
        # Without rights, a namespace of one's own has one user: the image's cannot be taken on, all else is the same.
        inside = ["sudo", "-n", *inside] if can_sudo else ["unshare", "--user", "--map-root-user", "chroot", str(root)]
    subprocess.run([*inside, *run["ENTRYPOINT"], "--version"], check=True)
    where = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    process = subprocess.Popen([*inside, *run["ENTRYPOINT"], *run["CMD"], *where], stdout=subprocess.PIPE, text=True)
    try:
        admin = next(json.loads(line)["admin"] for line in process.stdout if '"event":"listening"' in line)
        until = time.monotonic() + DEADLINE_S
        while not is_ready(admin):
            if time.monotonic() > until:
                sys.exit("the image never becomes ready")
            time.sleep(0.05)
        # Of a process begun by sudo only sudo may be signalled, which passes it on.
        process.send_signal(getattr(signal, run["STOPSIGNAL"]))
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    if process.returncode != 0:
        sys.exit(f"{run['STOPSIGNAL']} ends the image with {process.returncode}")


def is_ready(admin):
    try:
        return urllib.request.urlopen(f"http://{admin}/readyz", timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--binary", type=pathlib.Path)
    arguments = parser.parse_args()
    os.umask(0o022)
    root = arguments.root.resolve()
    root.mkdir(parents=True)
    (root / "etc").mkdir()
    first, last = stages()
    with tempfile.TemporaryDirectory() as scratch:
        built, where = build(first, pathlib.Path(scratch), arguments.binary and arguments.binary.resolve())
        run = finish(last, built, where, root)
    try_out(root, run)
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"{root}: {size / 2**20:.0f} MiB, runs as {run['USER']}")


main()
