"""Readers of dataset files in torchvision's layout: MNIST's IDX files, CIFAR's pickled batches.

Files are checked by shape, range and class counts. They are not checked by the publishers' MD5 sums
of whole files: repacked CIFAR-10 batches have the same pixels, labels and order but other file names
inside. torchvision itself is not used: it unpickles CIFAR-10 without any restriction, and a pickle can
run any code; here it can make numpy arrays and nothing else.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.data.roots import DataRoot
from neucodex_lava.errors import DataError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR10_BATCH = 10_000
MNIST_COUNTS = {
    True: (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    False: (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
"""Published images per class, by whether it is the training split."""
CIFAR10_COUNTS = {True: (5000,) * 10, False: (1000,) * 10}

CIFAR_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
CIFAR100_COUNTS = {True: (500,) * 100, False: (100,) * 100}
# Twice what a real batch has for each image, far smaller than memory.
IMAGE_BYTES_MAX = 2 * 3072
META_BYTES_MAX = 1 << 20

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_mnist(root: DataRoot, train: bool) -> Arrays:
    """MNIST: (pixels uint8 (N, 1, 28, 28), labels int64 (N,)), from unpacked or gzip files.

    Raises:
        DataError: files missing, truncated or not MNIST.
    """
    prefix = "train" if train else "t10k"
    count = sum(MNIST_COUNTS[train])
    pixels = _read_idx(root, f"{prefix}-images-idx3-ubyte", (count, 28, 28))
    labels = _read_idx(root, f"{prefix}-labels-idx1-ubyte", (count,)).astype(np.int64)
    _check_counts(root, labels, MNIST_COUNTS[train])
    return pixels[:, None], labels


def read_cifar10(root: DataRoot, train: bool) -> Arrays:
    """CIFAR-10, Python version: (pixels uint8 (N, 3, 32, 32), labels int64 (N,)).

    Raises:
        DataError: files missing, truncated, not CIFAR-10, or pickles of anything else.
    """
    names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    batches = [_read_batch(root, name, CIFAR10_BATCH) for name in names]
    pixels = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in batches])
    _check_counts(root, labels, CIFAR10_COUNTS[train])
    return pixels, labels


def read_cifar100(root: DataRoot, train: bool) -> tuple[Arrays, tuple[str, ...]]:
    """CIFAR-100, Python version: pixels and fine labels as of CIFAR-10, and the classes' names.

    Raises:
        DataError: files missing, truncated, not CIFAR-100, or pickles of anything else.
    """
    counts = CIFAR100_COUNTS[train]
    pixels, labels = _read_batch(root, "train" if train else "test", sum(counts), "fine_labels")
    _check_counts(root, labels, counts)
    meta = _unpickled(root, "meta", META_BYTES_MAX)
    names = tuple(_text(name) for name in np.asarray(meta.get("fine_label_names", ())).tolist())
    if len(names) != len(counts):
        raise root.error(f"'{root.folder / 'meta'}' names {len(names)} classes, expected 100")
    return (pixels.reshape(-1, 3, 32, 32), labels), names


def _check_counts(root: DataRoot, labels: NDArray[np.int64], expected: tuple[int, ...]) -> None:
    if labels.min() < 0 or labels.max() >= len(expected):
        raise root.error(
            f"labels from {labels.min()} to {labels.max()} are outside [0, {len(expected) - 1}]"
        )
    found = np.bincount(labels, minlength=len(expected)).tolist()
    if found != list(expected):
        wrong = next(c for c in range(len(expected)) if found[c] != expected[c])
        raise root.error(f"class {wrong} has {found[wrong]} images, expected {expected[wrong]}")


def _read_idx(root: DataRoot, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes: 0 0 8 ndim, the sizes as big-endian int32, the values."""
    path = root.folder / name
    packed = path.with_name(f"{name}.gz")
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
    size = len(header) + int(np.prod(shape))
    try:
        # One byte more than expected tells a file that is too long, and bounds what gzip unpacks.
        if path.is_file():
            with path.open("rb") as file:
                raw = file.read(size + 1)
        elif packed.is_file():
            with gzip.open(packed, "rb") as file:
                raw = file.read(size + 1)
        else:
            raise root.error(f"'{path}' is missing, and '{packed.name}' beside it")
    except (OSError, EOFError, zlib.error) as error:
        raise root.error(f"'{path.name}' cannot be read: {error}") from error
    if raw[: len(header)] != header:
        raise root.error(f"'{path}' is not the IDX file of shape {shape} that it should be")
    if len(raw) != size:
        state = "truncated" if len(raw) < size else "too long"
        raise root.error(f"'{path}' is {state}: {size:,} bytes expected")
    return np.frombuffer(raw, np.uint8, offset=len(header)).reshape(shape)


def _read_batch(root: DataRoot, name: str, size: int, key: str = "labels") -> Arrays:
    """Pixels (size, 3072) and labels (size,) of a pickled batch."""
    path = root.folder / name
    record = _unpickled(root, name, size * IMAGE_BYTES_MAX)
    try:
        pixels, labels = np.asarray(record["data"]), np.asarray(record[key])
    except Exception as error:  # whatever a pickle may hold in their place
        raise _no_batch(root, path, error) from error
    if pixels.shape != (size, 3072) or pixels.dtype != np.uint8:
        raise root.error(
            f"'{path}' holds {pixels.dtype} {pixels.shape}, expected uint8 ({size}, 3072)"
        )
    if labels.shape != (size,) or not np.issubdtype(labels.dtype, np.integer):
        raise root.error(f"'{path}' has labels {labels.dtype} {labels.shape}, expected ({size},)")
    return pixels, labels.astype(np.int64)


def _unpickled(root: DataRoot, name: str, limit: int) -> dict[str, Any]:
    """A pickled dictionary of arrays and plain values."""
    path = root.folder / name
    if not path.is_file():
        raise root.error(f"'{path}' is missing")
    if path.stat().st_size > limit:
        raise root.error(f"'{path}' is larger than any {CIFAR_NAMES[root.dataset]} batch")
    try:
        raw: Any = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        return {_text(key): value for key, value in raw.items()}
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise _no_batch(root, path, error) from error


def _no_batch(root: DataRoot, path: Path, error: Exception) -> DataError:
    kind, reason = CIFAR_NAMES[root.dataset], str(error) or type(error).__name__
    return root.error(f"'{path}' is truncated or no {kind} batch: {reason}")


def _text(key: object) -> str:
    """Keys are bytes or text, depending on the Python that wrote the pickle."""
    return key.decode("ascii") if isinstance(key, bytes) else str(key)


class _ArrayUnpickler(pickle.Unpickler):
    """Makes numpy arrays and plain containers; refuses every other name."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a pickle may call: an empty array, a dtype, and latin-1 bytes."""
        module = module_name.replace("numpy._core", "numpy.core")
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin1,
        }
        if (module, global_name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for '{module_name}.{global_name}'")
        return allowed[module, global_name]


def _empty_array(kind: object, shape: object, code: object) -> NDArray[Any]:
    """What numpy pickles start from; size and values follow in the pickle, as its own bytes."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("it makes an array that is not empty")
    return np.empty((0,), np.int8)


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocol 2; no other codec is wanted."""
    if _text(encoding) != "latin1":
        raise pickle.UnpicklingError(f"it uses the codec '{encoding}'")
    return text.encode("latin1")
