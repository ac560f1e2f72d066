"""Files that are valid HDF5 and no NetX, written with h5py: wrong shapes, types, sizes, links, JSON."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator

NUMBERS: tuple[Any, ...] = (
    -1, 0, 1, 2, 3, 63, 255, 256, -256, 1 << 20, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 62,
    (1 << 63) - 1, -(1 << 63), 0.5, 1e300, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *NUMBERS, True, None, "", "7", "conv", "input", "x" * 5000, "\x00", "🧠", [], {}, [[]], [1],
    [1, 2, 3, 4, 5, 6], [[0] * 9] * 2, {"a": 1}, [1 << 40] * 3,
)  # fmt: skip
WORDS = (
    b"conv", b"dense", b"flatten", b"input", b"pool", b"average", b"concat", b"dense_rec", b"identity",
    b"convT", b"CUBA", b"SDNN", b"RF_PHASE", b"", b"\xff\xfe", b"x" * 100, b"conv\x00dense",
)  # fmt: skip


def _paths(file: h5py.File, kind: type) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, kind) else None)
    return found


def _pick(file: h5py.File, rng: Rng, kind: type = h5py.Dataset) -> str:
    names = _paths(file, kind)
    return names[int(rng.integers(len(names)))]


def _put(file: h5py.File, name: str, value: Any, **how: Any) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, data=value, **how)


def removed(file: h5py.File, rng: Rng) -> None:
    del file[_pick(file, rng, (h5py.Dataset, h5py.Group)[int(rng.random() < 0.3)])]


def wrong_shape(file: h5py.File, rng: Rng) -> None:
    name = _pick(file, rng)
    value = np.asarray(file[name][()])
    size = int(rng.choice([0, 1, 2, 3, 5]))
    shapes = [
        (),
        (0,),
        (size,),
        (1, 1, 1, 1, 1),
        (size, size),
        (2, 3, 4),
        (1,) * 32,
        value.shape[::-1],
    ]
    shape = shapes[int(rng.integers(len(shapes)))]
    _put(file, name, np.resize(value, shape) if value.size else np.zeros(shape, value.dtype))


def huge_dimensions(file: h5py.File, rng: Rng) -> None:
    name = _pick(file, rng)
    kind = file[name].dtype
    shapes = [
        (1 << 62,),
        (1 << 31, 1 << 31),
        (1 << 20,) * 3,
        (1 << 40, 1),
        (1, 1 << 33),
        (1 << 24,),
    ]
    shape = shapes[int(rng.integers(len(shapes)))]
    del file[name]
    file.create_dataset(name, shape, kind if kind.kind != "O" else "f4")


def wrong_type(file: h5py.File, rng: Rng) -> None:
    name = _pick(file, rng)
    shape = np.shape(file[name][()])
    text = h5py.string_dtype()
    kinds: list[Any] = [
        "S5", text, "c8", "f2", ">f8", ">i2", "u8", "i1", "b1", "V7",
        np.dtype([("a", "i4"), ("b", "f8", (3,))]), h5py.vlen_dtype(np.int32),
        h5py.enum_dtype({"CUBA": 1, "SDNN": 2}), h5py.ref_dtype, h5py.regionref_dtype,
        np.dtype(("i4", (2, 2))),
    ]  # fmt: skip
    del file[name]
    file.create_dataset(name, shape, kinds[int(rng.integers(len(kinds)))])


def text_for_numbers(file: h5py.File, rng: Rng) -> None:
    words = (b"12", b"nan", b"", b"x" * 3000, "-1", "🧠")
    _put(file, _pick(file, rng), words[int(rng.integers(len(words)))])


def other_numbers(file: h5py.File, rng: Rng) -> None:
    name = _pick(file, rng)
    value = np.asarray(file[name][()])
    if value.dtype.kind not in "iufb":
        raise TypeError(name)
    number = NUMBERS[int(rng.integers(len(NUMBERS)))]
    changed = value.astype(np.float64) if isinstance(number, float) else value.astype(object)
    flat = changed.reshape(-1)
    flat[int(rng.integers(flat.size)) if rng.random() < 0.5 else slice(None)] = number
    kind = rng.choice(["i8", "f8", "f4", "i4"])
    if isinstance(number, float) and kind[0] == "i":
        kind = "f8"
    with np.errstate(all="ignore"):
        try:
            changed = changed.astype(kind)
        except OverflowError:
            changed = changed.astype("f8")
    _put(file, name, changed)


def other_weights(file: h5py.File, rng: Rng) -> None:
    names = [n for n in _paths(file, h5py.Dataset) if n.endswith(("weight", "bias", "delay"))]
    name = names[int(rng.integers(len(names)))]
    value = np.asarray(file[name][()]).astype(np.float32)
    flat = value.reshape(-1)
    flat[rng.random(flat.size) < 0.3] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    _put(file, name, value)


def other_word(file: h5py.File, rng: Rng) -> None:
    names = [n for n in _paths(file, h5py.Dataset) if n.endswith("type")]
    word = WORDS[int(rng.integers(len(WORDS)))]
    value: Any = np.array([word], "S100") if rng.random() < 0.5 and word else word
    _put(file, names[int(rng.integers(len(names)))], value)


def more_keys(file: h5py.File, rng: Rng) -> None:
    group = _pick(file, rng, h5py.Group)
    keys = (
        "delay", "weight_rec", "neuron/gradedSpike", "neuron/weight_exp", "neuron/messageBits", "bias",
        "weight/imag", "shape", "inFeatures", "exponent", "connection/1/weight", "neuron/refDelay",
    )  # fmt: skip
    key = f"{group}/{keys[int(rng.integers(len(keys)))]}"
    number = NUMBERS[int(rng.integers(len(NUMBERS)))]
    _put(file, key, np.full(int(rng.choice([1, 1, 2, 3, 7])), number))


def link(file: h5py.File, rng: Rng) -> None:
    """A soft or external link, dangling, to itself, to the root, or into another file."""
    name = _pick(file, rng, (h5py.Dataset, h5py.Group)[int(rng.random() < 0.3)])
    target = _pick(file, rng)
    links = [
        h5py.SoftLink("/" + target), h5py.SoftLink("/nowhere"), h5py.SoftLink("/" + name),
        h5py.SoftLink("/"), h5py.ExternalLink("/etc/passwd", "/"),
        h5py.ExternalLink(file.filename, "/" + target), h5py.ExternalLink("none.net", "/x"),
    ]  # fmt: skip
    del file[name]
    file[name] = links[int(rng.integers(len(links)))]


def second_name(file: h5py.File, rng: Rng) -> None:
    """A hard link: the same dataset or group under a second name, also inside itself."""
    kind = (h5py.Dataset, h5py.Group)[int(rng.random() < 0.6)]
    name, other = _pick(file, rng, kind), _pick(file, rng, kind)
    if rng.random() < 0.5 and kind is h5py.Group:
        other = f"{name}/{rng.choice(['neuron', 'connection', '1', '0', 'layer'])}"
    target = file[name]
    if other in file:
        del file[other]
    file[other] = target


def swapped(file: h5py.File, rng: Rng) -> None:
    kind = (h5py.Dataset, h5py.Group)[int(rng.random() < 0.5)]
    one, other = _pick(file, rng, kind), _pick(file, rng, kind)
    file.move(one, "kept")
    file.move(other, one)
    file.move("kept", other)


def group_for_dataset(file: h5py.File, rng: Rng) -> None:
    name = _pick(file, rng)
    del file[name]
    file.create_group(name)


def dataset_for_group(file: h5py.File, rng: Rng) -> None:
    _put(file, _pick(file, rng, h5py.Group), np.arange(3))


def bomb(file: h5py.File, rng: Rng) -> None:
    """Terabytes from filters, fill values, other files, or datasets made of others."""
    name = _pick(file, rng)
    shape = tuple(int(n) for n in rng.choice([1, 4, 1 << 10, 1 << 20, 1 << 30], 2))
    how = int(rng.integers(5))
    del file[name]
    if how == 0:
        chunks = tuple(min(n, 64) for n in shape)
        file.create_dataset(name, shape, "f4", chunks=chunks, compression="gzip", fillvalue=2)
    elif how == 1:
        file.create_dataset(name, (1 << 22,), "i1", np.zeros(1 << 22, "i1"), compression="gzip")
    elif how == 2:
        file.create_dataset(name, (1 << 10,), "i1", external=[("/dev/zero", 0, 1 << 10)])
    elif how == 3:
        layout = h5py.VirtualLayout((4, 1 << 20), "f4")
        layout[0] = h5py.VirtualSource("/dev/zero", "x", (1 << 20,))
        file.create_virtual_dataset(name, layout)
    else:
        file.create_dataset(name, shape, "f4", fillvalue=2, maxshape=(None, None))


def giant_attributes(file: h5py.File, rng: Rng) -> None:
    item = file[_pick(file, rng, (h5py.Dataset, h5py.Group)[int(rng.random() < 0.5)])]
    for i in range(int(rng.choice([1, 200]))):
        item.attrs[f"a{i}"] = np.zeros(int(rng.choice([1, 8000])))


def nested(file: h5py.File, rng: Rng) -> None:
    group = file[_pick(file, rng, h5py.Group)]
    for _ in range(int(rng.choice([5, 300]))):
        group = group.create_group(str(rng.choice(["neuron", "layer", "0", "1"])))


def more_layers(file: h5py.File, rng: Rng) -> None:
    """Layers twice, many times, or under names that are no numbers."""
    layers = file["layer"]
    count = len(layers)
    name = f"{int(rng.integers(count))}"
    if rng.random() < 0.5:
        layers[str(rng.choice([f"0{name}", f"{name} ", f"+{name}", "-1", "x", "1e0", "¹"]))] = (
            layers[name]
        )
        return
    for i in range(int(rng.choice([1, 50, 2000]))):
        layers[f"{count + i}"] = layers[name]


def fewer_layers(file: h5py.File, rng: Rng) -> None:
    layers = file["layer"]
    for name in list(layers):
        if rng.random() < 0.5:
            del layers[name]


def null_dataset(file: h5py.File, rng: Rng) -> None:
    name = _pick(file, rng)
    del file[name]
    file[name] = h5py.Empty(rng.choice(["f4", "S10"]))


def named_type(file: h5py.File, rng: Rng) -> None:
    name = _pick(file, rng)
    del file[name]
    file[name] = np.dtype("f8")


def own_structure(file: h5py.File, rng: Rng) -> None:
    """Anything anywhere in the JSON of a file of ours: sources that dangle or go round, sizes."""
    name = "neucodex/structure"
    whole = json.loads(bytes(file[name][()]))
    for _ in range(int(rng.integers(1, 4))):
        place: Any = whole
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = keys[int(rng.integers(len(keys)))]
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.15:
                break
            place = inner
        how = rng.random()
        if how < 0.15 and isinstance(place, dict):
            del place[key]
        elif how < 0.25:
            place[key] = [inner] * int(rng.choice([2, 70]))
        elif key == "source" and how < 0.7:
            names = [n.get("name", "") for n in whole.get("nodes", []) if isinstance(n, dict)]
            place[key] = str(rng.choice([*map(str, names), "input", "none", ""]))
        elif isinstance(inner, int) and how < 0.5:
            place[key] = inner + int(rng.choice([-1, 1, 100, 1 << 30]))
        else:
            place[key] = VALUES[int(rng.integers(len(VALUES)))]
    _put(file, name, np.bytes_(json.dumps(whole).encode("ascii")))


def own_text(file: h5py.File, rng: Rng) -> None:
    """The JSON itself broken, deep, endless or no JSON."""
    name = "neucodex/structure"
    text = bytes(file[name][()])
    texts = [
        text[: int(rng.integers(len(text)))], b"[" * 200_000, b'{"a":' * 5000, b"1" * 100_000, b"null",
        text.replace(b"1", b"1" * 5000), text.replace(b"}", b'}, "a": 1}', 1), b"\xff" + text,
        text.replace(b"0", b"NaN", 1), text + b" " * (1 << 20), text.replace(b'"nodes"', b'"format"'),
    ]  # fmt: skip
    _put(file, name, np.bytes_(texts[int(rng.integers(len(texts)))]))


STRUCTURE = (
    removed, wrong_shape, huge_dimensions, wrong_type, text_for_numbers, other_numbers, other_numbers,
    other_weights, other_word, more_keys, more_keys, link, second_name, swapped, group_for_dataset,
    dataset_for_group, bomb, giant_attributes, nested, more_layers, fewer_layers, null_dataset,
    named_type, own_structure, own_structure, own_structure, own_text,
)  # fmt: skip
