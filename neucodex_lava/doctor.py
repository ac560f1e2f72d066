"""Is this machine set up? Looks at the interpreter, the installed packages and their pins, and the
machine itself, and says what to do about what is missing. Imports nothing heavy: versions are read
from package metadata, and torch is imported only where there is a GPU to ask about.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from neucodex_lava import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = Literal["ok", "warn", "fail"]

DISTRIBUTION = "neucodex-lava"
EXTRAS = ("base", "edge", "train", "cloud", "otel", "onnx", "ray", "report")

# lava-nc 0.10.0 and lava-dl 0.6.0 declare `Requires-Python: >=3.10,<3.11`.
LAVA_EXTRAS = ("edge", "train")
LAVA_PYTHON = (3, 10)
BASE_PYTHON = (3, 10)

# Lava's channels live in shared memory; a container's usual default is 64 MiB.
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_WANTED_BYTES = 256 * 2**20
DISK_WANTED_BYTES = 2**30

# Where each dataset lies below the data root.
DATASET_FOLDERS = {
    "mnist": "MNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "caltech101": "caltech101/101_ObjectCategories",
    "nmnist": "NMNIST",
    "ncaltech101": "NCALTECH101/Caltech101",
    "cifar10dvs": "CIFAR10DVS",
    "dvs128gesture": "DVSGesture",
}


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Args:
        name: what was looked at.
        status: `ok`; `warn`, something will not work or work badly; `fail`, put this right first.
        found: what is there.
        todo: what to do about it; empty when nothing is.
    """

    name: str
    status: Status
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Extra:
    """Whether one part of the package (`base` or an extra) can be used here.

    Args:
        name: `base`, `edge`, `train`, `cloud` or `report`.
        ready: nothing is in the way.
        python: the Python versions it runs on.
        problems: what is in the way, one line each.
        todo: what to do about it; empty when it is ready.
    """

    name: str
    ready: bool
    python: str
    problems: tuple[str, ...] = ()
    todo: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """All that was looked at; `dataclasses.asdict` makes it fit for JSON.

    Args:
        version: of neucodex-lava.
        ok: the base can be used and no check failed; an extra that is not installed is no failure.
        extras: one entry for the base and for each extra.
        checks: the rest.
    """

    version: str
    ok: bool
    extras: tuple[Extra, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Requirement:
    """One `Requires-Dist` line of package metadata.

    Args:
        name: of the package.
        bounds: version clauses such as `>=77,<82`; empty for any version.
        extra: the extra that asks for it, or `base`.
    """

    name: str
    bounds: str
    extra: str


_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*"
    r"\(?(?P<bounds>[^;)]*)\)?\s*(;(?P<marker>.*))?"
)
_EXTRA = re.compile(r"""extra\s*==\s*['"](?P<extra>[^'"]+)['"]""")
_CLAUSE = re.compile(r"\s*(?P<operator>==|!=|>=|<=|<|>)\s*(?P<version>[0-9][\w.+]*)\s*")


def parse_requirement(line: str) -> Requirement:
    """Read one `Requires-Dist` line, as far as our own metadata needs it.

    Raises:
        ValueError: the line is not one.
    """
    match = _REQUIREMENT.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"not a requirement: {line!r}")
    extra = _EXTRA.search(match["marker"] or "")
    bounds = match["bounds"].replace(" ", "")
    return Requirement(match["name"], bounds, extra["extra"] if extra else "base")


def allows(bounds: str, version: str) -> bool:
    """Whether a version lies within bounds; only release numbers count, so `2.3.1+cu121` is 2.3.1.

    Raises:
        ValueError: a clause uses an operator other than `== != >= <= < >`.
    """
    for clause in filter(None, bounds.split(",")):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ValueError(f"not a version clause: {clause!r}")
        found, wanted = _release(version), _release(match["version"])
        width = max(len(found), len(wanted))
        found += (0,) * (width - len(found))
        wanted += (0,) * (width - len(wanted))
        holds = {
            "==": found == wanted,
            "!=": found != wanted,
            ">=": found >= wanted,
            "<=": found <= wanted,
            "<": found < wanted,
            ">": found > wanted,
        }
        if not holds[match["operator"]]:
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def check_extra(
    name: str,
    requirements: Sequence[Requirement],
    versions: Mapping[str, str | None],
    python: tuple[int, int],
) -> Extra:
    """Whether the base or an extra can be used.

    Args:
        name: one of `EXTRAS`.
        requirements: of the whole package.
        versions: installed version of each package; None for one that is not installed.
        python: major and minor version of the interpreter.
    """
    on_lava = name in LAVA_EXTRAS
    wanted = "3.10" if on_lava else "3.10 or later"
    problems: list[str] = []
    if (on_lava and python != LAVA_PYTHON) or python < BASE_PYTHON:
        problems.append(f"Python {python[0]}.{python[1]}, needs {wanted}")
    if not requirements:
        problems.append(f"{DISTRIBUTION} itself is not installed")
    absent: list[str] = []
    for need in (r for r in requirements if r.extra in ("base", name)):
        version = versions.get(need.name)
        if version is None:
            absent.append(need.name)
        elif not allows(need.bounds, version):
            problems.append(f"{need.name} {version}, needs {need.bounds}")
    if absent:
        problems.append(f"not installed: {', '.join(dict.fromkeys(absent))}")
    if not problems:
        return Extra(name, True, wanted)
    target = "." if name == "base" else f"'.[{name}]'"
    todo = f"make setup (everything, from a checkout), or: uv pip install {target}"
    return Extra(name, False, wanted, tuple(problems), todo)


def check_python(python: tuple[int, int], system: str) -> Check:
    """The interpreter, and the system under it: Lava forks, so it needs Linux."""
    found = f"Python {platform.python_version()} on {system}, {sys.executable}"
    if python < BASE_PYTHON:
        return Check("python", "fail", found, "make setup finds or asks for Python 3.10")
    if python != LAVA_PYTHON:
        todo = "Lava runs on Python 3.10 only: for edge and train, make setup with that"
        return Check("python", "warn", found, todo)
    if system != "Linux":
        return Check("python", "warn", found, "the edge side is tried on Linux only")
    return Check("python", "ok", found)


def check_pins(
    requirements: Sequence[Requirement], versions: Mapping[str, str | None]
) -> tuple[Check, ...]:
    """One check per installed package that an extra in use pins or bounds from above.

    The extra `edge` is in use where lava-nc is installed, `train` where lava-dl is.
    """
    in_use = {
        "base",
        *(["edge"] if versions.get("lava-nc") else []),
        *(["train"] if versions.get("lava-dl") else []),
    }
    pins: dict[str, list[Requirement]] = {}
    for need in requirements:
        if need.extra in in_use and ("==" in need.bounds or "<" in need.bounds):
            pins.setdefault(need.name, []).append(need)

    checks: list[Check] = []
    for name, needs in pins.items():
        version = versions.get(name)
        if version is None:
            continue
        wanted = "; ".join(f"{need.extra} wants {need.bounds}" for need in needs)
        broken = [need for need in needs if not allows(need.bounds, version)]
        todo = f"uv pip install '{name}{broken[0].bounds}'" if broken else ""
        checks.append(Check(name, "fail" if broken else "ok", f"{version} ({wanted})", todo))
    return tuple(checks)


def check_gpu(torch_version: str | None, with_slayer: bool) -> Check:
    """Whether torch can use a GPU; torch is imported only where the driver shows one.

    Args:
        torch_version: the installed one, or None.
        with_slayer: SLAYER is installed, which compiles CUDA code at its first use on a GPU.
    """
    name = "gpu"
    if torch_version is None:
        return Check(name, "ok", "not looked for: torch is not installed")
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return Check(name, "ok", "none: everything runs on the CPU")
    query = [smi, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        todo = "put the driver right, or go on with the CPU"
        return Check(name, "warn", f"nvidia-smi fails: {error}", todo)
    found = "; ".join(line.strip() for line in answer.stdout.splitlines() if line.strip())
    if not importlib.import_module("torch").cuda.is_available():
        todo = "a newer driver, or a torch built for CUDA; or go on with the CPU"
        return Check(name, "warn", f"{found}, but torch {torch_version} cannot use it", todo)
    if with_slayer and shutil.which("nvcc") is None:
        todo = "install the CUDA toolkit, or hide the GPU: CUDA_VISIBLE_DEVICES=''"
        return Check(name, "warn", f"{found}; no nvcc, which SLAYER needs on a GPU", todo)
    return Check(name, "ok", f"{found}, torch {torch_version}")


def check_numba(version: str | None, environ: Mapping[str, str]) -> Check:
    """Numba's settings in the environment, which the edge kernels run under."""
    name = "numba threading"
    if version is None:
        return Check(name, "ok", "not looked for: numba is not installed")
    layer = environ.get("NUMBA_THREADING_LAYER", "")
    threads = environ.get("NUMBA_NUM_THREADS", f"{os.cpu_count()} cores")
    found = f"numba {version}, threading layer {layer or 'not set'}, {threads}"
    if environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return Check(name, "warn", f"{found}, compiler off", "unset NUMBA_DISABLE_JIT")
    if layer not in ("", "workqueue"):
        todo = "set NUMBA_THREADING_LAYER=workqueue: others can hang in Lava's forked processes"
        return Check(name, "warn", found, todo)
    return Check(name, "ok", found)


def check_loihi(lava_version: str | None) -> Check:
    """Whether lava-loihi is there, Intel's extension that runs Lava on Loihi 2 systems."""
    name = "lava-loihi"
    # Lava's own test for it, lava.utils.loihi.is_installed, looks for this module.
    if lava_version is not None and importlib.util.find_spec("lava.utils.loihi2_profiler"):
        return Check(name, "ok", "installed")
    todo = (
        "only for real Loihi 2 systems: join Intel's Neuromorphic Research Community (INRC), "
        "which hands out lava-loihi and access; it is on no public index"
    )
    return Check(name, "ok", "not installed: Loihi 2 is simulated on the CPU", todo)


def check_shared_memory(folder: Path = SHARED_MEMORY) -> Check:
    """Whether there is shared memory enough for Lava's channels."""
    name = "shared memory"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        todo = f"mount a tmpfs at {folder} that you may write to (Lava's channels live there)"
        return Check(name, "fail", f"{folder} is missing or not writable", todo)
    free = shutil.disk_usage(folder).free
    found = f"{_size(free)} free in {folder}"
    if free < SHARED_MEMORY_WANTED_BYTES:
        todo = "free some, or give the container more (docker run --shm-size=1g)"
        return Check(name, "warn", found, todo)
    return Check(name, "ok", found)


def check_disk(folder: Path) -> Check:
    """Whether there is room for runs, bundles and reports."""
    free = shutil.disk_usage(folder).free
    found = f"{_size(free)} free in {folder}"
    if free < DISK_WANTED_BYTES:
        todo = f"free some: {_size(DISK_WANTED_BYTES)} should be there for runs and reports"
        return Check("disk", "warn", found, todo)
    return Check("disk", "ok", found)


def check_data_root(data_root: str | None) -> Check:
    """Which datasets lie in the data root."""
    name = "data root"
    if not data_root:
        todo = "for other datasets set NEUCODEX_DATA to the folder that holds them"
        return Check(name, "ok", "NEUCODEX_DATA is not set: the embedded digits only", todo)
    if not Path(data_root).is_dir():
        todo = "set NEUCODEX_DATA to a folder that exists, or unset it"
        return Check(name, "fail", f"{data_root} is not a folder", todo)
    present = [n for n, sub in DATASET_FOLDERS.items() if (Path(data_root) / sub).is_dir()]
    if not present:
        example = DATASET_FOLDERS["cifar10"]
        todo = f"each dataset lies in its usual folder there, such as {example}"
        return Check(name, "warn", f"{data_root} holds no dataset known here", todo)
    return Check(name, "ok", f"{data_root}: {', '.join(present)}")


def check_import_paths(cwd: Path, python_path: str) -> Check:
    """Whether our packages and the standard library's are the ones that Python would import.

    Lava's dependencies bring an `argparse` and its wheels a `tests`, which come first where Python
    starts in the site-packages folder; the package index has an unrelated `energy`.
    """
    name = "import paths"
    site = Path(sysconfig.get_paths()["purelib"]).resolve()
    entries = [Path(part).resolve() for part in python_path.split(os.pathsep) if part]
    if cwd.resolve() == site or site in entries:
        where = "started in" if cwd.resolve() == site else "PYTHONPATH names"
        todo = "start elsewhere, or unset it: what lies there shadows the standard library"
        return Check(name, "fail", f"{where} {site}", todo)
    home = Path(__file__).resolve().parent.parent
    for package in ("energy", "host_bridge"):
        spec = importlib.util.find_spec(package)
        places = (
            [Path(p).resolve() for p in (spec.submodule_search_locations or [])] if spec else []
        )
        if home / package not in places:
            found = f"'{package}' is {places[0] if places else 'missing'}, not {home / package}"
            todo = f"uninstall the unrelated package '{package}', then install {DISTRIBUTION} again"
            return Check(name, "fail", found, todo)
    return Check(name, "ok", f"our packages come from {home}")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def run_doctor() -> DoctorReport:
    """Look at everything; raises nothing for what it finds."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        lines = []
    requirements = tuple(map(parse_requirement, lines))
    packages = {r.name for r in requirements} | {"lava-nc", "lava-dl", "torch", "numba"}
    versions = {package: _version_of(package) for package in sorted(packages)}
    python = (sys.version_info.major, sys.version_info.minor)

    extras = tuple(check_extra(name, requirements, versions, python) for name in EXTRAS)
    checks = (
        check_python(python, platform.system()),
        *check_pins(requirements, versions),
        check_gpu(versions["torch"], versions["lava-dl"] is not None),
        check_numba(versions["numba"], os.environ),
        check_loihi(versions["lava-nc"]),
        check_shared_memory(),
        check_disk(Path.cwd()),
        check_data_root(os.environ.get("NEUCODEX_DATA")),
        check_import_paths(Path.cwd(), os.environ.get("PYTHONPATH", "")),
    )
    ok = extras[0].ready and all(check.status != "fail" for check in checks)
    return DoctorReport(__version__, ok, extras, checks)


def render(report: DoctorReport) -> RenderableType:
    """The report as two tables and a closing line, for `rich.console.Console.print`."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    colours: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red"}
    parts = Table(title=f"neucodex-lava {report.version}", title_justify="left")
    for column in ("part", "ready", "Python", "in the way, and what to do"):
        parts.add_column(column, overflow="fold")
    for extra in report.extras:
        ready = Text("yes", style="green") if extra.ready else Text("no", style="yellow")
        lines = [*extra.problems, *([f"→ {extra.todo}"] if extra.todo else [])]
        parts.add_row(extra.name, ready, extra.python, Text("\n".join(lines)))

    machine = Table(title="this machine", title_justify="left")
    for column in ("check", "status", "found, and what to do"):
        machine.add_column(column, overflow="fold")
    for check in report.checks:
        found = f"{check.found}\n→ {check.todo}" if check.todo else check.found
        machine.add_row(check.name, Text(check.status, style=colours[check.status]), Text(found))

    ready = ", ".join(extra.name for extra in report.extras if extra.ready) or "nothing"
    if report.ok:
        verdict = Text(f"Ready: {ready}.", style="green")
    else:
        verdict = Text(f"Ready: {ready}. Put right what is marked fail or no.", style="red")
    return Group(parts, machine, verdict)
