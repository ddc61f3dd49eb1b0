"""`make image-steps`: carry out the steps of `deploy/compose/Dockerfile` in a clean Debian, without containers.

``python -m dsa110_assets_tests.deploy.image_steps [--directory DIR]``, as root, with Debian's mmdebstrap. ``FROM``
makes a minimal Debian 12, ``COPY`` copies the files that git knows and that `Dockerfile.dockerignore` leaves, and
``RUN`` runs in a chroot. Then the image's user runs commands through the entry point, and CASA. What makes an image of
it, and how Docker starts it, is not tried.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COMPOSE = REPOSITORY / "deploy/compose"
MIRROR = "http://deb.debian.org/debian"
LENT = "lent-by-the-host"
"""Directory in the root with what reaches the network here, as Docker lends it to a build; removed at the end."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Name and rest of each instruction; continued lines are joined, comments left out."""
    lines = "\n".join(line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether a file of the checkout stays out of the build. ``**/NAME`` matches at any depth."""
    parts = Path(path).parts
    for pattern in patterns:
        if pattern.startswith("**/"):
            if any(fnmatch.fnmatch(part, pattern[3:]) for part in parts):
                return True
        elif any(fnmatch.fnmatch("/".join(parts[: n + 1]), pattern) for n in range(len(parts))):
            return True
    return False


def copy_checkout(destination: Path) -> None:
    """Copy the files that git knows and the build takes."""
    lines = (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    known = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, known):
        if not ignored(name, patterns):
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, destination / name)


def in_chroot(root: Path, command: list[str], environment: dict[str, str], *, cwd: str, user: str = "root") -> None:
    """Run a command in the root directory, with /proc and /dev, in a mount namespace of its own."""
    places = "".join(f"mkdir -p {root}{one}; mount --bind {one} {root}{one}\n" for one in ("/proc", "/dev", *package_places()))
    variables = shlex.join([f"{name}={text}" for name, text in environment.items()])
    inner = f"cd {shlex.quote(cwd)} && exec {shlex.join(command)}"
    script = (
        f"set -e\n{places}exec chroot --userspec={user} {root} /usr/bin/env -i {variables} /bin/bash -o pipefail -c {shlex.quote(inner)}"
    )
    subprocess.run(["unshare", "--mount", "bash", "-c", script], check=True)


def _from_pip(name: str) -> str:
    shown = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    found = re.findall(rf"^[\w:]+\.{name}='(.*)'$", shown, flags=re.MULTILINE)
    return " ".join(one.replace("\\n", " ") for one in found)


def package_places() -> list[str]:
    """Local directories from which this machine's pip also takes packages."""
    words = f"{_from_pip('extra-index-url')} {_from_pip('find-links')}".replace("file://", "").split()
    return sorted({word for word in words if word.startswith("/") and Path(word).is_dir()})


def lent_variables() -> dict[str, str]:
    """Proxies and settings of pip, and the certificates that this machine trusts."""
    given = {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy") or name.startswith("PIP_")}
    trusted = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), f"/{LENT}/{CERTIFICATES.name}")
    links = _from_pip("find-links")
    return given | trusted | ({"PIP_FIND_LINKS": links} if links else {})


def main(arguments: list[str] | None = None) -> int:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/dsa110-image"), help="emptied first")
    root: Path = parser.parse_args(arguments).directory.absolute()
    shutil.rmtree(root, ignore_errors=True)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **lent_variables()}
    cwd, user = "/", "root"
    steps = instructions(COMPOSE / "Dockerfile")
    for number, (name, rest) in enumerate(steps, 1):
        print(f"== step {number} of {len(steps)}: {name} {rest[:100]}", flush=True)
        match name:
            case "FROM":
                assert rest == "debian:12-slim"
                subprocess.run(["mmdebstrap", "--mode=root", "--variant=minbase", "bookworm", str(root), MIRROR], check=True)
                (root / LENT).mkdir()
                shutil.copy(CERTIFICATES, root / LENT)
                shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
            case "ENV":
                environment |= dict(one.split("=", 1) for one in shlex.split(rest))
            case "WORKDIR":
                cwd = rest
                (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                assert rest == ". ."
                copy_checkout(root / cwd.lstrip("/"))
            case "RUN":
                in_chroot(root, ["bash", "-o", "pipefail", "-c", rest], environment, cwd=cwd, user=user)
            case "USER":
                user = rest
            case "ENTRYPOINT" | "CMD" | "SHELL":
                pass
            case _:
                raise NotImplementedError(f"{name} is not known here")
    entry = shlex.split(next(rest for name, rest in steps if name == "ENTRYPOINT").strip("[]"))
    for command in (["config", "show"], ["worker", "--help"]):
        in_chroot(root, [*entry, *command], environment, cwd=cwd, user=user)
    casa = "from dsa110_assets.cli.preflight import check_casa; found = check_casa(); print(found); assert found.verdict == 'ok'"
    in_chroot(root, ["python", "-c", casa], environment, cwd=cwd, user=user)
    shutil.rmtree(root / LENT)
    print("all steps were carried out", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
