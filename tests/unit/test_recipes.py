"""Every recipe's commands are ones that the program takes, in an order in which they can run."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from neucodex_lava.cli.main import parse
from neucodex_lava.cli.training import Convert, Export, Finetune, Train
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
    commands = dry_run(recipe, *options)
    assert commands[-1][0] == "scripts/release.sh"
    made: dict[Path, Train | Convert | Finetune] = {}
    trained: list[Train] = []
    for words in commands:
        if words[0] == "scripts/release.sh":
            family = Path(words[1])
            assert isinstance(made[family / "base"], Train)
            assert str(family.parent) == {(): "runs", ("--smoke",): "runs/smoke"}.get(options, "r")
            continue
        assert words[0] == "neucodex"
        command = parse(words[1:])
        assert command.out is not None
        if isinstance(command, Export):
            # Beside the family, which holds its own base and split bundles only.
            assert command.source in made
            assert command.out.name == "base"
            assert command.out.parent.name.startswith(f"{command.source.parent.name}-")
            continue
        if isinstance(command, Convert):
            source = made[command.source]
            assert isinstance(source, Train)
            assert source.train_config().artificial
            assert source.activation == {"qcfs": "qcfs", "transfer": "relu"}[command.method]
            made[command.out] = command
            continue
        config = command.train_config()
        assert config.seed == (2 if "--seed" in options else 0)
        if "--smoke" in options:
            ran = (1, 0, 0) if config.artificial else (0, 1, 1)
            assert (config.ann_epochs, config.epochs, config.qat_epochs) == ran
        if isinstance(command, Train):
            command.data_config()
            heads = tuple(parse_split(split) for split in command.exit_heads)
            architecture(command.arch, command.width, exit_heads=heads)
            assert command.init is None or command.init in made
            trained.append(command)
        else:
            assert isinstance(command, Finetune)
            base = made[command.base]
            assert isinstance(base, Train)
            split = parse_split(command.split)
            BottleneckConfig(split, command.channels, command.stride, command.kernel)
            model = architecture(base.arch, base.width)
            assert split <= model.split_points
            assert command.out == command.base.parent / f"sp{split}"
        made[command.out] = command
    (one,) = {(c.arch, c.width, c.dataset, c.encoding, c.bits) for c in trained}
    if "--smoke" not in options:
        name = f"{architecture(one[0], one[1]).architecture}-{one[2]}"
        for folder in made:
            family, of_seed = folder.parent.name, "-s2" if "--seed" in options else ""
            assert family.startswith(name)
            assert family.endswith(of_seed)


def test_an_unknown_option_is_refused() -> None:
    done = subprocess.run(
        ["bash", RECIPES[0], "--colour"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown option --colour" in done.stderr
