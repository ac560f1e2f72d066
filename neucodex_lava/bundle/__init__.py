"""A bundle: the one folder that deploys. Write it, read it, check it.

``edge.net`` (NetX HDF5, the nodes before the cut), ``tail.safetensors`` (those after it),
``golden.npz`` (seeded input with every node's spikes and counts) and ``manifest.json``, which names
the sha256 of the others and carries the papers: commands, log, measured table; and where somebody
trained them ``coding.safetensors``, the coding tables. A base bundle is stored uncut, without a tail
file.
"""

from neucodex_lava.bundle.coding import coding_bytes, cuts_of, load_coding
from neucodex_lava.bundle.folder import Bundle, find_base, load_bundle, load_tail, read_manifest
from neucodex_lava.bundle.golden import Golden, digest_potentials, read_golden, write_golden
from neucodex_lava.bundle.manifest import FORMAT_VERSION, Accuracy, Manifest
from neucodex_lava.bundle.write import amend, put_coding, write_bundle

__all__ = [
    "Bundle",
    "load_bundle",
    "load_tail",
    "read_manifest",
    "find_base",
    "write_bundle",
    "amend",
    "put_coding",
    "load_coding",
    "coding_bytes",
    "cuts_of",
    "Manifest",
    "Accuracy",
    "FORMAT_VERSION",
    "Golden",
    "digest_potentials",
    "read_golden",
    "write_golden",
]
