"""IntegerNet <-> NetX HDF5, the file format of lava-dl's `netx.hdf5.Network`."""

from neucodex_lava.edge.netx.reader import read_netx
from neucodex_lava.edge.netx.writer import write_netx

__all__ = ["read_netx", "write_netx"]
