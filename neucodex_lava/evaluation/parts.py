"""A long run in parts: each finished part is a file, so that an interrupted run goes on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.errors import ConfigError
from neucodex_lava.files import TEMPORARY, replacing

RUN_FILE = "simulation.json"
FORMAT = {"format": "neucodex-simulation", "version": 1}


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive samples that have been run.

    Attributes:
        code: spikes of the last node in C order of (C, H, W, T), packed, uint8 (N, bytes).
        sums: running sums S_t, int64 (N, K, T); (N, 0, T) when the last node spikes.
        ledger: their counts.
    """

    code: NDArray[np.uint8]
    sums: NDArray[np.int64]
    ledger: Ledger

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, as they are stored."""
        counts = {name: getattr(self.ledger, name) for name in ALL_COUNTS}
        return {"code": self.code, "sums": self.sums} | counts


class PartFolder:
    """The finished parts of one run.

    Args:
        folder: made if it is missing.
        identity: JSON values that say what is run, to the last bit.

    Raises:
        ConfigError: the folder holds something else.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        wanted = json.loads(json.dumps(FORMAT | dict(identity)))
        path = folder / RUN_FILE
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"'{folder}' is no folder", "choose another one with --out")
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            if any(p.suffix != TEMPORARY for p in folder.iterdir()):
                raise ConfigError(
                    f"'{folder}' is not empty and holds no simulation",
                    "choose another folder with --out",
                )
            with replacing(path) as file:
                file.write((json.dumps(wanted, indent=2) + "\n").encode())
            return
        try:
            found = json.loads(path.read_text())
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"'{path}' is damaged: {error}", "delete its folder") from error
        if found != wanted:
            keys = sorted(set(wanted) | set(found)) if isinstance(found, dict) else []
            other = [k for k in keys if found.get(k) != wanted.get(k)]
            raise ConfigError(
                f"'{folder}' holds another simulation"
                + (f", with another '{other[0]}'" if other else ""),
                "choose another folder with --out, or delete it",
            )

    def _path(self, first: int) -> Path:
        return self.folder / f"part-{first:08d}.npz"

    def write(self, first: int, part: Part) -> None:
        """Keep the part that begins with sample `first`."""
        with replacing(self._path(first)) as file:
            np.savez(file, **part.arrays())

    def read(self, first: int, like: Part) -> Part | None:
        """The part that begins with sample `first`; None where it is missing or damaged.

        Args:
            first: number of its first sample.
            like: a part with arrays of the right shapes and types.
        """
        try:
            with np.load(self._path(first), allow_pickle=False) as file:
                arrays = {name: file[name] for name in like.arrays()}
        except Exception:
            # numpy, zipfile and zlib raise nearly anything on a damaged file; it is only run again.
            return None
        for name, array in like.arrays().items():
            if (arrays[name].shape, arrays[name].dtype) != (array.shape, array.dtype):
                return None
        counts = {name: arrays.pop(name) for name in ALL_COUNTS}
        ledger = like.ledger
        return Part(
            **arrays,
            ledger=Ledger(ledger.nodes, ledger.connections, **counts, kinds=ledger.kinds),
        )


def empty_part(ledger: Ledger, code_bits: int, outputs: int) -> Part:
    """A part of zeros.

    Args:
        ledger: of zeros; says how many samples and timesteps.
        code_bits: values of the last node over all timesteps, C * H * W * T.
        outputs: K of the readout, 0 when the last node spikes.
    """
    code = np.zeros((ledger.samples, -(-code_bits // 8)), np.uint8)
    return Part(code, np.zeros((ledger.samples, outputs, ledger.timesteps), np.int64), ledger)
