"""Fetch the documents that the questions are about: `fetch.py FOLDER`, on Debian or with its tools.

Packages are downloaded (`apt-get download`) and unpacked, never installed, and nothing of them is in this
repository: `sources.json` names versions, digests and files. A version that the archive no longer has is
replaced by the one it has, and is named. Manual pages become text as people save them (`man … | col -b`);
everything else is kept as the package has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).with_name("sources.json")
NEEDED = ("apt-get", "dpkg-deb", "man", "col")


def downloaded(package: dict[str, Any], folder: Path) -> Path:
    """The package file in `folder`, in the version of the list or, if that is gone, in the one there is."""
    name, version = package["package"], package["version"]
    found = _package_files(name, folder)
    for wanted in (f"{name}={version}", name):
        if found:
            break
        command = ["apt-get", "download", "--quiet", wanted]
        subprocess.run(command, cwd=folder, check=False, capture_output=True)
        found = _package_files(name, folder)
    if not found:
        raise FileNotFoundError(f"{name}: apt-get cannot download it; run apt-get update first")
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != package["sha256"]:
        print(f"{found[0].name} is not the file that the questions were written on", file=sys.stderr)
    return found[0]


def _package_files(name: str, folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{name}_*.deb"))


def as_text(manual: Path) -> bytes:
    """A manual page as `man` shows it on a terminal of 80 columns, without overstrikes."""
    settings = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANROFFOPT": ""}
    page = subprocess.run(["man", "-l", str(manual)], capture_output=True, check=True, env=settings)
    return subprocess.run(
        ["col", "-b", "-x"], input=page.stdout, capture_output=True, check=True, env=settings
    ).stdout


def fetch(folder: Path) -> Path:
    """Bring all documents to `folder/documents` and return that; what is there already is kept."""
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if missing:
        raise FileNotFoundError(
            f"not found: {', '.join(missing)}; expected Debian with man-db, bsdextrautils"
        )
    packages, unpacked, documents = folder / "packages", folder / "unpacked", folder / "documents"
    for place in (packages, unpacked, documents):
        place.mkdir(parents=True, exist_ok=True)
    for package in json.loads(SOURCES.read_text(encoding="utf-8")):
        missing_here = [each for each in package["documents"] if not (documents / each["name"]).exists()]
        if not missing_here:
            continue
        place = unpacked / package["package"]
        subprocess.run(["dpkg-deb", "-x", str(downloaded(package, packages)), str(place)], check=True)
        for document in missing_here:
            source, target = place / document["file"], documents / document["name"]
            if not source.is_file():
                print(f"{package['package']}: {document['file']} is not in it any more", file=sys.stderr)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            is_manual = source.suffix == ".gz" and "/man/" in document["file"]
            target.write_bytes(as_text(source) if is_manual else source.read_bytes())
    return documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="packages, unpacked files and documents go here")
    found = fetch(parser.parse_args().folder)
    files = [file for file in found.rglob("*") if file.is_file()]
    print(f"{len(files)} documents, {sum(file.stat().st_size for file in files) >> 20} MiB, in {found}")


if __name__ == "__main__":
    main()
