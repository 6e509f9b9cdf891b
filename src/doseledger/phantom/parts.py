"""What virtual patients are made of: parts with layers of tissue, and organs with a truth of their own."""

from __future__ import annotations

from dataclasses import dataclass

from doseledger.phantom.tissues import Tissue
from doseledger.phantom.view import Surface


@dataclass(frozen=True)
class Layer:
    """A tissue that begins at a depth under the surface and reaches down to the next layer."""

    depth_mm: float
    tissue: Tissue


@dataclass(frozen=True, eq=False)
class Part:
    """What is painted in one go, the layers from the outside in.

    Attributes
    ----------
    breathing
        Movement with the breath over that of the liver.
    on_ct_only
        Seen by CT, too small to matter for activity and dose.
    faint
        Takes up about as much as what is around it: left out of maps of activity.
    """

    solid: Surface
    layers: tuple[Layer, ...]
    breathing: float = 0.0
    on_ct_only: bool = False
    faint: bool = False


@dataclass(frozen=True, eq=False)
class Zone:
    """A place inside an organ with another tissue or another activity.

    Attributes
    ----------
    uptake
        Activity per volume over that in the rest of the organ.
    """

    solid: Surface
    tissue: Tissue
    uptake: float


@dataclass(frozen=True, eq=False)
class Organ:
    """An organ or lesion with a time-activity curve; organs are painted over all parts.

    Attributes
    ----------
    patchiness
        Relative standard deviation of the activity per volume from place to place.
    """

    name: str
    solid: Surface
    tissue: Tissue
    breathing: float = 0.0
    zones: tuple[Zone, ...] = ()
    patchiness: float = 0.0
