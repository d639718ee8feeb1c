"""Build the wheel and the source distribution into dist/, and check them as users get them: `make package`.

1. Both are built twice, from copies of the files that git knows, in other folders, with other times, modes, hash seeds
   and time zones, and must have equal bytes; so must the wheels from the source distribution and from the checkout.
2. The wheel is installed into an empty environment, with the versions of constraints.txt, and `pip check` passes.
3. `smoke.py` runs there, outside of the checkout, with every connection refused.
4. `typed.py` is checked against it by mypy --strict and by pyright.
5. The bill of materials of that environment is written in CycloneDX's format.

At the end it prints the sizes. A step that fails ends it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
EPOCH = 315532800  # of files in an archive, unless SOURCE_DATE_EPOCH says another: the first second that zip knows
# what must not matter to a build
SURROUNDINGS: list[dict[str, str]] = [
    {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"},
]


def main(
    environment: Annotated[
        Path | None, typer.Option(help="An environment that has the wheel already; else an empty one is made.")
    ] = None,
    into: Annotated[Path, typer.Option(help="The folder for what is built.")] = ROOT / "dist",
) -> None:
    """Build and check the distribution."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        built = build_twice(work)
        into.mkdir(exist_ok=True)
        for old in into.glob("captum_lkn-*"):
            old.unlink()
        files = [Path(shutil.copy(file, into)) for file in built]
        wheel = next(file for file in files if file.suffix == ".whl")
        run([sys.executable, "-m", "twine", "check", "--strict", *map(str, files)])
        python = python_of(environment) if environment else installed(wheel, work / "empty")
        outside = work / "outside"
        outside.mkdir()
        for script in ("smoke.py", "typed.py"):
            shutil.copy(HERE / script, outside)
        run([str(python), "-I", "smoke.py"], cwd=outside)
        check_types(python, outside)
        write_bill(python, wheel.with_name(wheel.name.split("-py3")[0] + ".cdx.json"))
        print_sizes(files)


def run(command: Sequence[str], *, cwd: Path = ROOT, settings: Mapping[str, str] | None = None) -> None:
    """Run a command and print it first; end where it fails."""
    print("+", *command, flush=True)
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env={**surroundings, **(settings or {})})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} must end with 0; got {done.returncode}")


# ---------------------------------------------------------------- building


def build_twice(work: Path) -> list[Path]:
    """Build the source distribution and the wheel in different surroundings; return the files, which are equal."""
    date = os.environ.get("SOURCE_DATE_EPOCH", str(EPOCH))
    folders = []
    for number, surroundings in enumerate(SURROUNDINGS):
        sources, target = work / f"sources{'-' * 9 * number}{number}", work / f"built{number}"
        copy_of_sources(sources, mode=0o644 if number else 0o600, time=1_500_000_000 + 10_000_000 * number)
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target)]
        run([*build, str(sources)], settings={**surroundings, "SOURCE_DATE_EPOCH": date})
        folders.append(target)
    direct = work / "direct"
    run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(direct), str(sources)],
        settings={"SOURCE_DATE_EPOCH": date},
    )
    files = sorted(folders[0].iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    for other in [folders[1] / files[0].name, folders[1] / files[1].name, direct / files[0].name]:
        assert digest(other) == digest(folders[0] / other.name), f"{other.name} must have equal bytes in every build"
    for file in files:
        print(f"{digest(file)}  {file.name}, the same in every build")
    return files


def copy_of_sources(target: Path, mode: int, time: int) -> None:
    """Copy the files that git knows, with another mode and another time."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        file = ROOT / name
        if not name or not file.is_file():
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(mode)
        os.utime(copy, (time, time))


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


# ---------------------------------------------------------------- using


def python_of(environment: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed(wheel: Path, environment: Path) -> Path:
    """Install the wheel into an empty environment; return its interpreter."""
    run([sys.executable, "-m", "venv", str(environment)])
    python = python_of(environment)
    run([str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel)])
    run([str(python), "-m", "pip", "check"])
    return python


def check_types(python: Path, outside: Path) -> None:
    """Check the consumer, as a project that has nothing but the wheel: by mypy, and by pyright in its strict mode."""
    run([sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "typed.py"], cwd=outside)
    (outside / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "include": ["typed.py"]}')
    run([sys.executable, "-m", "pyright", "--pythonpath", str(python)], cwd=outside)


def write_bill(python: Path, file: Path) -> None:
    """Write the bill of materials of the environment: each package, its version and its licence."""
    project = ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "library"]
    written = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(file)]
    run([sys.executable, "-m", "cyclonedx_py", "environment", *project, *written, str(python)])


def print_sizes(files: Sequence[Path]) -> None:
    """Print how large the files are, and what takes the room."""
    for file in files:
        print(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")
        if file.suffix == ".whl":
            inside = zipfile.ZipFile(file).infolist()
            assets = sum(one.file_size for one in inside if "/assets/" in one.filename)
            whole = sum(one.file_size for one in inside)
            print(
                f"  installed {whole / 1e6:.2f} MB in {len(inside)} files; {assets / 1e6:.2f} MB are the demo's assets"
            )


if __name__ == "__main__":
    typer.run(main)
