"""Energy windows of an image, and which of them sees the photopeak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from doseledger.errors import EnergyWindowError
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.nuclides import Nuclide, nuclide

#: Lines that windows are set on: bright enough to be imaged, and above the x rays of lead and of
#: the patient's surroundings.
SMALLEST_YIELD: Final = 0.01
LOWEST_LINE_KEV: Final = 70.0
#: Largest difference between a limit as declared and as in the header, keV: limits are often rounded.
LIMIT_TOLERANCE_KEV: Final = 2.0

Range = tuple[float, float]


@dataclass(frozen=True)
class EnergyWindow:
    """A window as EnergyWindowVector (0054,0010) counts them, from 1; it can have several ranges."""

    number: int
    ranges_kev: tuple[Range, ...]

    def __str__(self) -> str:
        return ", ".join(f"{low:.1f}-{high:.1f}" for low, high in self.ranges_kev)

    def sees(self, energy_kev: float) -> bool:
        return any(low <= energy_kev <= high for low, high in self.ranges_kev)

    def is_declared(self, declared: Range) -> bool:
        limits = zip(self.ranges_kev[0], declared, strict=True) if len(self.ranges_kev) == 1 else ()
        return [abs(mine - theirs) <= LIMIT_TOLERANCE_KEV for mine, theirs in limits] == [True, True]


def read_windows(header: Header) -> tuple[EnergyWindow, ...]:
    """Windows of an NM image, as in EnergyWindowInformationSequence (0054,0012)."""
    return tuple(
        EnergyWindow(number, tuple(_range(r) for r in window.items("EnergyWindowRangeSequence")))
        for number, window in enumerate(header.items("EnergyWindowInformationSequence"), start=1)
    )


def photopeak_windows(
    windows: Sequence[EnergyWindow], source: Nuclide | None, declared: Range | None
) -> tuple[EnergyWindow, ...]:
    """Windows that an activity can be read from.

    That is the declared one, else those with a line of the nuclide, else those with a line of a
    daughter that decays in place. All of them if neither is known, or if the nuclide has no line:
    the bremsstrahlung of 90Y can be imaged in any window.
    """
    if declared is not None:
        return tuple(w for w in windows if w.is_declared(declared))
    lines = [] if source is None else _lines(source, 1.0)
    found = tuple(w for w in windows if any(w.sees(e) for e in lines))
    if source is None or found:
        return found or tuple(windows)
    daughters = [e for member in source.chain for e in _lines(nuclide(member.name), member.yield_per_decay)]
    if not lines and not daughters:
        return tuple(windows)
    return tuple(w for w in windows if any(w.sees(e) for e in daughters))


def require_one_window(
    header: Header, windows: Sequence[EnergyWindow], matching: Sequence[EnergyWindow], wanted: str
) -> EnergyWindow:
    """The only matching window.

    Raises
    ------
    EnergyWindowError
        None of the windows matches, or several do.
    """
    if len(matching) == 1:
        return matching[0]
    what = "no energy window of the image sees" if not matching else "several energy windows of the image see"
    raise EnergyWindowError(
        f"{what} {wanted}",
        path=header.path,
        tag=tag_name("EnergyWindowInformationSequence"),
        value=[str(w) for w in matching or windows],
        expected="one window",
    )


def _lines(source: Nuclide, weight: float) -> list[float]:
    return [e for e, y in source.photons if y * weight >= SMALLEST_YIELD and e >= LOWEST_LINE_KEV]


def _range(item: Header) -> Range:
    return item.required_number("EnergyWindowLowerLimit"), item.required_number("EnergyWindowUpperLimit")


def window_text(windows: Iterable[EnergyWindow]) -> str | None:
    """For tables: ``"187.6-229.2"``; None if no limits are known."""
    return ", ".join(str(w) for w in windows if w.ranges_kev) or None
