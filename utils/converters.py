"""What makes the files of a set out of an archive that holds them in another form."""

import gzip
import io
import pickle
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds NumPy arrays and refuses whatever else a pickle may name."""

    admitted = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the object `module.name` if it is one of those that make an array."""
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}; only arrays are admitted")
        return self.admitted[module, name]


def _mnist_pickle(stream: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Turn the Theano tutorials' `mnist.pkl.gz` back into the four idx files that it was made from.

    It holds (images [N, 784] in pixel / 256, labels [N]) for 50,000 + 10,000 + 10,000 digits; the first two
    parts in this order are the official training set.
    """
    training, validation, test = _ArrayUnpickler(gzip.GzipFile(fileobj=stream), encoding="latin1").load()
    for part, pieces in (("train", (training, validation)), ("t10k", (test,))):
        images = np.concatenate([images for images, _ in pieces]).reshape(-1, 28, 28)
        yield f"raw/{part}-images-idx3-ubyte", _idx((images * 256).round())
        yield f"raw/{part}-labels-idx1-ubyte", _idx(np.concatenate([labels for _, labels in pieces]))


def _idx(values: np.ndarray) -> BinaryIO:
    """Write an array as an idx file of unsigned bytes: magic number, sizes, values."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return io.BytesIO(header + values.astype(np.uint8).tobytes())


CONVERTERS = {"mnist_pickle": _mnist_pickle}
