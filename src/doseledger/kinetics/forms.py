"""The forms of curves that are sums of exponentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Form:
    """A sum of `clearances` exponentials, which starts from zero if it has an `uptake`."""

    name: str
    clearances: int = 1
    uptake: bool = False

    @property
    def unknowns(self) -> int:
        """Rates; the amplitudes are eliminated."""
        return self.clearances + self.uptake

    @property
    def size(self) -> int:
        """Number of parameters k."""
        return self.clearances + self.unknowns

    @property
    def parameter_names(self) -> tuple[str, ...]:
        if self.clearances == 1:
            names: tuple[str, ...] = ("amplitude_mbq", "rate_per_h")
        else:
            names = ("amplitude_mbq", "fast_amplitude_mbq", "rate_per_h", "fast_rate_per_h")
        return (*names, "uptake_rate_per_h") if self.uptake else names


#: Every form by its name in the registry of models.
FORMS: Final[dict[str, Form]] = {
    form.name: form
    for form in (
        Form("mono"),
        Form("mono_uptake", uptake=True),
        Form("bi", clearances=2),
        Form("bi_uptake", clearances=2, uptake=True),
    )
}


def exponentials(parameter_names: Sequence[str], parameters: Sequence[float]) -> tuple[list[float], list[float]]:
    """Amplitudes (MBq, those of uptake negative) and rates (1/h) of a curve sum_i a_i exp(-l_i t).

    Both are empty for a curve that is no sum of exponentials.

    Examples
    --------
    >>> exponentials(("amplitude_mbq", "rate_per_h", "uptake_rate_per_h"), (100.0, 0.01, 0.3))
    ([100.0, -100.0], [0.01, 0.3])
    """
    amplitudes = [p for name, p in zip(parameter_names, parameters, strict=True) if name.endswith("amplitude_mbq")]
    rates = [p for name, p in zip(parameter_names, parameters, strict=True) if name.endswith("rate_per_h")]
    if not amplitudes:
        return [], []
    return [*amplitudes, *([-sum(amplitudes)] * (len(rates) - len(amplitudes)))], rates
