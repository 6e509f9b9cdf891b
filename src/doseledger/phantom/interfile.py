"""Reading Interfile voxel maps: a text header beside the raw values, which may be compressed with gzip."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import FileUnreadableError, InputMissingError, TagMissingError, UnitError
from doseledger.geometry import Vector

#: NumPy kinds of the number formats of Interfile 3.3.
_NUMBER_FORMATS: Final = {"unsigned integer": "u", "signed integer": "i", "short float": "f", "long float": "f"}
_BYTE_ORDERS: Final = {"LITTLEENDIAN": "<", "BIGENDIAN": ">"}


@dataclass(frozen=True, eq=False)
class InterfileImage:
    """Values as stored.

    Attributes
    ----------
    values
        ``(slice, row, column)`` in the order of the file; the header does not say how the patient lies in them.
    spacing_mm
        Distance of slices, rows and columns.
    """

    values: NDArray[Any]
    spacing_mm: Vector


def read_interfile(header: Path, *, slice_thickness_unit: Literal["mm", "pixels"]) -> InterfileImage:
    """Read one volume.

    Parameters
    ----------
    header
        The ``.h33`` file. The values lie beside it under the name that it states, or that name with ``.gz``.
    slice_thickness_unit
        Interfile 3.3 counts the slice thickness in pixels, and many programs write millimetres under the same key.
        The file does not tell, so the caller must.

    Raises
    ------
    InputMissingError
        Header or values are absent.
    TagMissingError
        A key that decides about the values is missing.
    UnitError
        A key has a value that Interfile does not know.
    FileUnreadableError
        The file of values is damaged, or does not fill the volume.
    """
    keys = _read_header(header)
    shape = tuple(int(keys.number(name)) for name in ("number of slices", "matrix size [2]", "matrix size [1]"))
    column_mm, row_mm = (keys.number(f"scaling factor (mm/pixel) [{axis}]") for axis in (1, 2))
    thickness = keys.number("slice thickness (pixels)")
    raw = _read_values(keys)[int(keys.number("data offset in bytes")) :]
    dtype = _dtype(keys)
    expected = int(np.prod(shape)) * dtype.itemsize
    if len(raw) != expected:
        raise FileUnreadableError(
            "the values do not fill the volume",
            path=header,
            value=f"{len(raw)} bytes",
            expected=f"{expected} bytes",
            remedy="Fetch the file again, or correct the matrix size in its header.",
        )
    slice_mm = thickness if slice_thickness_unit == "mm" else thickness * column_mm
    return InterfileImage(np.frombuffer(raw, dtype).reshape(shape), (slice_mm, row_mm, column_mm))


@dataclass(frozen=True)
class _Header:
    """Texts by key; keys in lower case, without the mark (``!``) of the required ones."""

    path: Path
    texts: dict[str, str]

    def text(self, key: str) -> str:
        text = self.texts.get(key)
        if not text:
            raise TagMissingError(
                "the Interfile header lacks a key", path=self.path, tag=key, remedy="Complete the header."
            )
        return text

    def number(self, key: str) -> float:
        try:
            return float(self.text(key))
        except ValueError:
            raise self.unknown(key, "a number") from None

    def unknown(self, key: str, expected: object) -> UnitError:
        return UnitError(
            "the Interfile header has a value that is not known",
            path=self.path,
            tag=key,
            value=self.text(key),
            expected=expected,
            remedy="Correct the header.",
        )


def _read_header(path: Path) -> _Header:
    if not path.is_file():
        raise InputMissingError("the Interfile header is absent", path=path, remedy="Correct the path.")
    texts = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, assigned, text = line.partition(":=")
        if assigned:
            texts[" ".join(key.strip().lstrip("!").lower().split())] = text.strip()
    return _Header(path, texts)


def _read_values(keys: _Header) -> bytes:
    plain = keys.path.parent / Path(keys.text("name of data file")).name
    packed = plain.with_name(f"{plain.name}.gz")
    if plain.is_file():
        return plain.read_bytes()
    if not packed.is_file():
        raise InputMissingError(
            "the values of an Interfile header are absent", path=plain, remedy="Put them beside the header."
        )
    try:
        return gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise FileUnreadableError(
            f"the compressed values are damaged: {error}", path=packed, remedy="Fetch the file again."
        ) from None


def _dtype(keys: _Header) -> np.dtype[Any]:
    kind, order = keys.text("number format").lower(), keys.text("imagedata byte order").upper()
    if kind not in _NUMBER_FORMATS:
        raise keys.unknown("number format", sorted(_NUMBER_FORMATS))
    if order not in _BYTE_ORDERS:
        raise keys.unknown("imagedata byte order", sorted(_BYTE_ORDERS))
    size = int(keys.number("number of bytes per pixel"))
    try:
        return np.dtype(f"{_BYTE_ORDERS[order]}{_NUMBER_FORMATS[kind]}{size}")
    except TypeError:
        raise keys.unknown("number of bytes per pixel", (1, 2, 4, 8)) from None
