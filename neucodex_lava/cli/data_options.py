"""Options that choose a dataset and how it becomes what the network sees."""

from __future__ import annotations

from dataclasses import dataclass

from neucodex_lava.config import (
    EVENT_DATASETS,
    Binning,
    DataConfig,
    DatasetName,
    EncodingConfig,
    EncodingName,
)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What `train` sees; the run and its bundles keep it."""

    dataset: DatasetName = "digits"
    """digits and digitsdvs are embedded, the others need --data-root."""
    timesteps: int = 4
    """T_max."""
    encoding: EncodingName | None = None
    """How an image becomes spikes: deterministic, bernoulli, or direct (multi-bit pixels, repeated);
    recordings take events."""
    bits: int | None = None
    """Bits of the direct encoding, by default the most at which 8-bit weights cannot overflow; of
    events counted in a timestep, by default 1."""
    encoding_seed: int = 0
    """Seed of the bernoulli encoding; of digitsdvs, that of the pixels' thresholds."""
    train_limit: int = 0
    """Use only the first samples of the training split; 0 for all."""
    classes: tuple[str, ...] = ()
    """caltech101, ncaltech101: the classes to use, e.g. --classes watch ketch bonsai."""
    size: int = 0
    """Scale images or events to this height and width; 0 for the dataset's own."""
    split_seed: int = 0
    """Seed of the division into training and test samples, where the dataset has none."""
    bins: Binning = "time"
    """Timesteps of a recording: of equal time, or of an equal count of events."""
    holdout: int = 0
    """So many training samples are not trained on: ``neucodex calibrate`` uses them."""

    def data_config(self) -> DataConfig:
        """The options as a configuration."""
        events = self.dataset in EVENT_DATASETS
        name: EncodingName = self.encoding or ("events" if events else "deterministic")
        default = 1 if name == "events" else EncodingConfig.bits
        bits = default if self.bits is None else self.bits
        return DataConfig(
            dataset=self.dataset,
            timesteps=self.timesteps,
            encoding=EncodingConfig(name, bits, self.encoding_seed),
            train_limit=self.train_limit,
            classes=self.classes,
            size=self.size,
            split_seed=self.split_seed,
            bins=self.bins,
            holdout=self.holdout,
        )
