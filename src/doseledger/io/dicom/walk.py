"""A few elements of a header, found by stepping over all others: ten times as fast as reading them with pydicom.

Only the two ways in which nearly all files are written are known here, and only the beginning of a
file is looked at. Whatever is out of the ordinary is left to pydicom.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from typing import Final

#: Where the elements begin, after the preamble and its four letters.
_START: Final = 132
_TRANSFER_SYNTAX: Final = 0x00020010
_LAST_OF_META: Final = 0x0002FFFF
_IMPLICIT: Final = b"1.2.840.10008.1.2"
#: Compressed as a whole, and with the bytes the other way round.
_UNUSUAL: Final = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2")
_UNDEFINED: Final = 0xFFFFFFFF
_END_OF_SEQUENCE: Final = 0xFFFEE0DD
#: Of items and sequences; their lengths have four bytes and no type before them.
_DELIMITERS: Final = frozenset((0xFFFEE000, 0xFFFEE00D, _END_OF_SEQUENCE))
_LONG: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT: Final = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN"),
        *(b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
_explicit: Final = struct.Struct("<HH2sH").unpack_from
_length: Final = struct.Struct("<L").unpack_from


def find_elements(
    head: bytes, wanted: Collection[int], last: Callable[[dict[int, bytes]], int]
) -> dict[int, bytes] | None:
    """Values of the wanted elements of the outermost data set.

    Parameters
    ----------
    head
        The first bytes of the file.
    wanted
        Tags, as ``group << 16 | element``.
    last
        Tag after which nothing more is needed, by what has been found so far.

    Returns
    -------
    values
        As they stand in the file; None where the file is written in an unusual way, or where its
        beginning does not reach far enough.

    Examples
    --------
    >>> meta = bytes(128) + b"DICM" + b"\\2\\0\\x10\\0UI\\x14\\0" + b"1.2.840.10008.1.2.1\\0"
    >>> patient = b"\\x10\\0\\x20\\0LO\\2\\0" + b"P1" + b"\\x10\\0\\x40\\0CS\\2\\0" + b"F "
    >>> find_elements(meta + patient, {0x00100020}, lambda found: 0x00100020)
    {1048608: b'P1'}
    """
    try:
        return _walk(head, wanted, last)
    except struct.error:
        # The beginning of the file ends in the middle of an element.
        return None


def _walk(head: bytes, wanted: Collection[int], last: Callable[[dict[int, bytes]], int]) -> dict[int, bytes] | None:
    found: dict[int, bytes] = {}
    if head[_START - 4 : _START] != b"DICM":
        return None
    at, end, depth = _START, last(found), 0
    explicit, in_meta, syntax = True, True, b""
    while True:
        group, element, vr, length = _explicit(head, at)
        tag = group << 16 | element
        if in_meta and tag > _LAST_OF_META:
            in_meta = False
            if not syntax or syntax in _UNUSUAL:
                return None
            explicit = syntax != _IMPLICIT
        if depth == 0 and tag > end:
            return found
        at += 8
        if group == 0xFFFE:
            # Items are stepped into, so that their end need not be known.
            depth -= tag == _END_OF_SEQUENCE
            if tag not in _DELIMITERS or depth < 0:
                return None
            continue
        if not explicit:
            (length,) = _length(head, at - 4)
        elif vr in _LONG:
            (length,) = _length(head, at)
            at += 4
        elif vr not in _SHORT:
            return None
        if length == _UNDEFINED:
            if explicit and vr != b"SQ":
                return None
            depth += 1
            continue
        if at + length > len(head):
            return None
        if tag == _TRANSFER_SYNTAX:
            syntax = head[at : at + length].rstrip(b"\0 ")
        elif depth == 0 and tag in wanted:
            found[tag] = head[at : at + length]
            end = last(found)
        at += length
