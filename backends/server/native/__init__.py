"""Decoders as native programs: quantised networks of every family, where the CPU has kernels.

A network is described (``decoder``), its weights lie packed in a file (``packed``), each sequence's
keys and values in a piece of memory (``cache``), and a forward pass is one program over the arrays
of a ``workspace``. ``network`` gives that the face of any other network. Imports no torch but where
a packed file has to be made.
"""

from backends.server.native.angles import Angles
from backends.server.native.decoder import HeadPlaces, Shape
from backends.server.native.network import NativeNetwork
from backends.server.native.packed import LayerNames, Names, PackedDecoder

__all__ = ["Angles", "HeadPlaces", "LayerNames", "Names", "NativeNetwork", "PackedDecoder", "Shape"]
