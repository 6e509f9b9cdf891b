"""Frames of a segmentation as stored: bits, fractions or labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels

from doseledger.errors import FileUnreadableError
from doseledger.io.dicom.headers import DAMAGED, Header, quiet, tag_name


def frame_values(header: Header, count: int, shape: tuple[int, int]) -> Iterator[NDArray[Any]]:
    """Stored values frame by frame, ``(y, x)``: a file may hold more than fits into memory at once.

    Raises
    ------
    FileUnreadableError
        The pixel data are truncated, damaged or not decodable.
    """
    if header.number("BitsAllocated") == 1 and not header.dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from _bits(header, count, shape)
        return
    decoded = 0
    try:
        with quiet():
            for values in iter_pixels(header.dataset, raw=True):
                decoded += 1
                yield values
    except (*DAMAGED, AttributeError, NotImplementedError, RuntimeError) as error:
        raise FileUnreadableError(
            f"frame {decoded + 1} of {count} cannot be decoded: {error}", path=header.path, tag=tag_name("PixelData")
        ) from error


def _bits(header: Header, count: int, shape: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """One bit per voxel, lowest bit first; frames follow each other without a gap, so within a byte.

    pydicom 3.0.2 loses the last bits of a frame that reaches into one byte more than its size needs.
    """
    data = np.frombuffer(header.dataset.PixelData, np.uint8)
    size = shape[0] * shape[1]
    if data.size * 8 < count * size:
        raise FileUnreadableError(
            "the file is truncated: it ends before its last frame",
            path=header.path,
            tag=tag_name("PixelData"),
            value=f"{data.size} bytes",
            expected=f"{-(-count * size // 8)} bytes",
        )
    for frame in range(count):
        first, offset = divmod(frame * size, 8)
        stop = -(-(frame + 1) * size // 8)
        yield np.unpackbits(data[first:stop], bitorder="little")[offset : offset + size].reshape(shape)
