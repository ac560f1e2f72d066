"""Doctor: what it says about versions, machines and settings that are not as they should be."""

import io
import json
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
import tomli
from rich.console import Console

from neucodex_lava import doctor
from neucodex_lava.doctor import Check, Requirement, allows, parse_requirement

PROJECT = Path(__file__).parents[2]

REQUIREMENTS = tuple(
    map(
        parse_requirement,
        [
            "numpy>=1.24",
            "rich>=13",
            "lava-nc==0.10.0; extra == 'edge'",
            "numpy<2; extra == 'edge'",
            "lava-dl==0.6.0; extra == 'train'",
            "lava-nc==0.10.0; extra == 'train'",
            "numpy<2; extra == 'train'",
            "setuptools<82,>=77; extra == 'train'",
            "torch>=2.3; extra == 'cloud'",
        ],
    )
)
COMPLETE: Mapping[str, str | None] = {
    "numpy": "1.26.4",
    "rich": "15.0.0",
    "lava-nc": "0.10.0",
    "lava-dl": "0.6.0",
    "setuptools": "81.0.0",
    "torch": "2.3.1+cu121",
}


@pytest.mark.parametrize(
    ("line", "requirement"),
    [
        ("numpy", Requirement("numpy", "", "base")),
        ("numpy >= 1.24, < 2", Requirement("numpy", ">=1.24,<2", "base")),
        ("networkx (<=2.8.7)", Requirement("networkx", "<=2.8.7", "base")),
        ("h5py>=3.10; extra == 'edge'", Requirement("h5py", ">=3.10", "edge")),
        ('pyright[nodejs]>=1.1; extra == "dev"', Requirement("pyright", ">=1.1", "dev")),
        (
            "a<2; python_version < '3.11' and extra == 'train'",
            Requirement("a", "<2", "train"),
        ),
    ],
)
def test_requirement_lines_are_read(line: str, requirement: Requirement) -> None:
    assert parse_requirement(line) == requirement


def test_what_is_no_requirement_is_refused() -> None:
    with pytest.raises(ValueError, match="not a requirement"):
        parse_requirement("==2.0")


@pytest.mark.parametrize(
    ("bounds", "version", "allowed"),
    [
        ("", "0.1", True),
        ("==2.3.1", "2.3.1", True),
        ("==2.3.1", "2.3.1+cu121", True),
        ("==2.3.1", "2.3.10", False),
        ("==2.0", "2", True),
        ("!=2.0", "2.0.0", False),
        (">=77,<82", "76.1.0", False),
        (">=77,<82", "77.0", True),
        (">=77,<82", "81.9.9", True),
        (">=77,<82", "82.0.0", False),
        ("<2", "1.26.4", True),
        ("<2", "2.0.0", False),
        (">1,<=1.10", "1.9", True),
        (">1,<=1.10", "1.10.1", False),
        (">1,<=1.10", "1.0", False),
    ],
)
def test_versions_are_compared_by_number(bounds: str, version: str, allowed: bool) -> None:
    assert allows(bounds, version) is allowed


def test_an_operator_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="not a version clause"):
        allows("~=2.3", "2.3.1")


def test_every_requirement_of_this_project_is_understood() -> None:
    project = tomli.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += extra
    assert len(lines) > 20
    for line in lines:
        requirement = parse_requirement(line)
        allows(requirement.bounds, "1.0")
    assert set(doctor.EXTRAS) == {"base", *project["optional-dependencies"]} - {"dev"}


def test_everything_is_ready_where_everything_fits() -> None:
    for name in doctor.EXTRAS:
        extra = doctor.check_extra(name, REQUIREMENTS, COMPLETE, (3, 10))
        assert (extra.ready, extra.problems, extra.todo) == (True, (), "")


@pytest.mark.parametrize(
    ("name", "change", "python", "problems"),
    [
        ("base", {"rich": None}, (3, 10), ("not installed: rich",)),
        ("edge", {"rich": None}, (3, 10), ("not installed: rich",)),
        ("edge", {"numpy": "2.1.0"}, (3, 10), ("numpy 2.1.0, needs <2",)),
        ("cloud", {"numpy": "2.1.0"}, (3, 13), ()),
        ("train", {"setuptools": "82.0.1"}, (3, 10), ("setuptools 82.0.1, needs <82,>=77",)),
        ("edge", {}, (3, 11), ("Python 3.11, needs 3.10",)),
        ("base", {}, (3, 9), ("Python 3.9, needs 3.10 or later",)),
        (
            "train",
            {"lava-dl": None, "setuptools": None, "lava-nc": "0.9.0"},
            (3, 10),
            ("lava-nc 0.9.0, needs ==0.10.0", "not installed: lava-dl, setuptools"),
        ),
    ],
)
def test_an_extra_says_what_is_in_its_way(
    name: str, change: dict[str, str | None], python: tuple[int, int], problems: tuple[str, ...]
) -> None:
    extra = doctor.check_extra(name, REQUIREMENTS, {**COMPLETE, **change}, python)
    assert extra.problems == problems
    assert extra.ready is (problems == ())
    assert bool(extra.todo) is (problems != ())


def test_a_package_that_is_not_installed_is_not_ready() -> None:
    extra = doctor.check_extra("base", (), {}, (3, 10))
    assert not extra.ready
    assert extra.problems == ("neucodex-lava itself is not installed",)


def test_pins_of_what_is_in_use_are_checked_once_each() -> None:
    checks = {c.name: c for c in doctor.check_pins(REQUIREMENTS, COMPLETE)}
    assert set(checks) == {"numpy", "lava-nc", "lava-dl", "setuptools"}
    assert {c.status for c in checks.values()} == {"ok"}
    assert checks["numpy"].found == "1.26.4 (edge wants <2; train wants <2)"


def test_a_broken_pin_fails_with_the_command_that_mends_it() -> None:
    (broken,) = (
        c
        for c in doctor.check_pins(REQUIREMENTS, {**COMPLETE, "numpy": "2.1.0"})
        if c.status != "ok"
    )
    assert (broken.name, broken.status) == ("numpy", "fail")
    assert broken.todo == "uv pip install 'numpy<2'"


def test_without_lava_its_pins_bind_nobody() -> None:
    versions = {**COMPLETE, "lava-nc": None, "lava-dl": None, "numpy": "2.1.0"}
    assert doctor.check_pins(REQUIREMENTS, versions) == ()


@pytest.mark.parametrize(
    ("python", "system", "status"),
    [
        ((3, 10), "Linux", "ok"),
        ((3, 12), "Linux", "warn"),
        ((3, 10), "Darwin", "warn"),
        ((3, 9), "Linux", "fail"),
    ],
)
def test_interpreter(python: tuple[int, int], system: str, status: str) -> None:
    assert doctor.check_python(python, system).status == status


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an `nvidia-smi` of our own, and nothing else, on PATH."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


class FakeCuda:
    """Stands in for torch, so that a driver can be there without a GPU."""

    def __init__(self, available: bool) -> None:
        self.cuda = self
        self.available = available

    def is_available(self) -> bool:
        return self.available


def test_no_gpu_is_asked_about_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "torch is not installed" in doctor.check_gpu(None, False).found


def test_no_driver_means_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_gpu("2.3.1", True) == Check("gpu", "ok", "none: everything runs on the CPU")


def test_a_driver_that_fails_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, "exit 9")
    check = doctor.check_gpu("2.3.1", False)
    assert check.status == "warn"
    assert "nvidia-smi fails" in check.found


@pytest.mark.parametrize(
    ("available", "with_slayer", "status", "words"),
    [
        (True, False, "ok", "torch 2.3.1"),
        (True, True, "warn", "no nvcc"),
        (False, False, "warn", "cannot use it"),
    ],
)
def test_a_gpu_that_torch_can_or_cannot_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    available: bool,
    with_slayer: bool,
    status: str,
    words: str,
) -> None:
    driver(tmp_path, monkeypatch, "echo 'Some GPU, 80000 MiB, 550.1'")
    monkeypatch.setitem(sys.modules, "torch", FakeCuda(available))
    check = doctor.check_gpu("2.3.1", with_slayer)
    assert check.status == status
    assert check.found.startswith("Some GPU, 80000 MiB, 550.1")
    assert words in check.found


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, "ok"),
        ({"NUMBA_THREADING_LAYER": "workqueue"}, "ok"),
        ({"NUMBA_THREADING_LAYER": "omp"}, "warn"),
        ({"NUMBA_DISABLE_JIT": "1"}, "warn"),
    ],
)
def test_numba_settings(environ: dict[str, str], status: str) -> None:
    check = doctor.check_numba("0.68.1", environ)
    assert check.status == status
    assert bool(check.todo) is (status == "warn")


def test_lava_loihi_is_looked_for_only_below_lava() -> None:
    check = doctor.check_loihi(None)
    assert check.status == "ok"
    assert "INRC" in check.todo


def test_shared_memory_that_is_missing_fails(tmp_path: Path) -> None:
    assert doctor.check_shared_memory(tmp_path / "shm").status == "fail"


@pytest.mark.parametrize(("wanted", "status"), [(0, "ok"), (2**62, "warn")])
def test_little_shared_memory_and_little_disk_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int, status: str
) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY_WANTED_BYTES", wanted)
    monkeypatch.setattr(doctor, "DISK_WANTED_BYTES", wanted)
    assert doctor.check_shared_memory(tmp_path).status == status
    assert doctor.check_disk(tmp_path).status == status


def test_data_root(tmp_path: Path) -> None:
    assert doctor.check_data_root(None).status == "ok"
    assert doctor.check_data_root(str(tmp_path / "absent")).status == "fail"
    assert doctor.check_data_root(str(tmp_path)).status == "warn"
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "cifar-10-batches-py").mkdir()
    check = doctor.check_data_root(str(tmp_path))
    assert (check.status, check.found) == ("ok", f"{tmp_path}: mnist, cifar10")


def test_import_paths_in_order(tmp_path: Path) -> None:
    assert doctor.check_import_paths(tmp_path, "").status == "ok"


def test_site_packages_as_working_directory_or_on_pythonpath_fails(tmp_path: Path) -> None:
    site = Path(sysconfig.get_paths()["purelib"])
    assert doctor.check_import_paths(site, "").status == "fail"
    assert doctor.check_import_paths(tmp_path, f"{tmp_path}:{site}").status == "fail"


def test_an_unrelated_package_of_the_same_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in [n for n in sys.modules if n == "energy" or n.startswith("energy.")]:
        monkeypatch.delitem(sys.modules, name)
    check = doctor.check_import_paths(tmp_path, "")
    assert check.status == "fail"
    assert str(tmp_path / "energy") in check.found


def test_the_whole_report_is_fit_for_json_and_for_a_terminal() -> None:
    report = doctor.run_doctor()
    assert [extra.name for extra in report.extras] == list(doctor.EXTRAS)
    assert json.loads(json.dumps(asdict(report)))["version"] == report.version

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(doctor.render(report))
    text = console.export_text()
    for extra in report.extras:
        assert extra.name in text
    for check in report.checks:
        assert check.name in text
    assert "Ready:" in text


def test_the_report_fails_with_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUCODEX_DATA", "/nowhere/at/all")
    report = doctor.run_doctor()
    assert [c.status for c in report.checks if c.name == "data root"] == ["fail"]
    assert not report.ok
