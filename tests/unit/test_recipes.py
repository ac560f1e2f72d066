"""Every recipe's commands are ones that the program takes, in an order in which they can run."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from neucodex_lava.cli.main import parse
from neucodex_lava.cli.training import Finetune, Train
from neucodex_lava.config import BottleneckConfig, architecture, parse_split

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    str(p.relative_to(ROOT)) for p in (ROOT / "recipes").rglob("*.sh") if p.name != "common.sh"
)


def dry_run(recipe: str, *options: str) -> list[list[str]]:
    done = subprocess.run(
        ["bash", recipe, "--dry-run", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert all(line.startswith("+ ") for line in done.stdout.splitlines())
    return [shlex.split(line[2:]) for line in done.stdout.splitlines()]


def test_there_are_recipes_for_both_networks_of_the_paper_on_cpus_and_gpus() -> None:
    for folder in ("recipes", "recipes/gpu"):
        for name in ("resnet18", "vgg16"):
            assert f"{folder}/cifar10-{name}.sh" in RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("options", [(), ("--seed", "2", "--runs", "r"), ("--smoke",)])
def test_a_recipes_commands_are_understood(recipe: str, options: tuple[str, ...]) -> None:
    *training, release = dry_run(recipe, *options)
    made: dict[Path, Train] = {}
    for words in training:
        assert words[0] == "neucodex"
        command = parse(words[1:])
        config = command.train_config()
        assert command.out is not None
        assert config.seed == (2 if "--seed" in options else 0)
        if "--smoke" in options:
            assert (config.epochs, config.qat_epochs) == (1, 1)
        if isinstance(command, Train):
            command.data_config()
            assert command.init is None or command.init in made
            made[command.out] = command
        else:
            assert isinstance(command, Finetune)
            base = made[command.base]
            split = parse_split(command.split)
            BottleneckConfig(split, command.channels, command.stride, command.kernel)
            model = architecture(base.arch, base.width)
            assert split <= model.split_points
            assert command.out == command.base.parent / f"sp{split}"
    family = next(iter(made)).parent
    assert release == ["scripts/release.sh", str(family)]
    folder = {(): "runs", ("--smoke",): "runs/smoke"}.get(options, "r")
    assert str(family.parent) == folder
    (one,) = {(c.arch, c.width, c.dataset, c.encoding, c.bits) for c in made.values()}
    if "--smoke" not in options:
        name = f"{architecture(one[0], one[1]).architecture}-{one[2]}"
        assert family.name == (f"{name}-s2" if "--seed" in options else name)


def test_an_unknown_option_is_refused() -> None:
    done = subprocess.run(
        ["bash", RECIPES[0], "--colour"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown option --colour" in done.stderr
