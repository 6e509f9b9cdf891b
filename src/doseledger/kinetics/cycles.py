"""Cycles with several scans as arrays: what a population is learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics.curves import check_samples
from doseledger.kinetics.log_shapes import LogShape
from doseledger.kinetics.nodes import chi2_of
from doseledger.kinetics.priors import PARAMETERS

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: One patient has no spread.
FEWEST_PATIENTS: Final = 2
#: One scan has no shape.
FEWEST_SCANS: Final = 2


@dataclass(frozen=True)
class Cycle:
    """The activities of one region in one cycle; the two sides of a pair are two such cycles of one patient.

    Attributes
    ----------
    u_activity_mbq
        Random standard uncertainties; 5 % of each if not given.
    covariates
        Numbers of the patient by name.
    """

    patient: str
    site: str
    times_h: tuple[float, ...]
    activity_mbq: tuple[float, ...]
    half_life_h: float
    u_activity_mbq: tuple[float, ...] | None = None
    covariates: Mapping[str, float] = field(default_factory=dict)


def usable(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Cycles whose shape is seen, in an order that does not depend on that of the input.

    Sums of floating-point numbers depend on their order.
    """
    seen = [cycle for cycle in cycles if sum(a > 0 for a in cycle.activity_mbq) >= FEWEST_SCANS]
    return sorted(seen, key=lambda c: (c.site, c.patient, c.times_h, c.activity_mbq))


@dataclass(frozen=True, eq=False)
class Batch:
    """Cycles as arrays, padded to the longest; a scan that is not there has no weight."""

    model: str
    times_h: Array
    data: Array
    inverse_u: Array
    slowest_per_h: Array
    patient_of: Index
    site_of: Index
    patients: tuple[tuple[str, str], ...]
    sites: tuple[str, ...]
    values: Array
    centres: Array

    @property
    def n_cycles(self) -> int:
        return int(self.times_h.shape[0])

    @property
    def n_patients(self) -> int:
        return len(self.patients)

    @property
    def n_sites(self) -> int:
        return len(self.sites)

    @classmethod
    def of(cls, cycles: Sequence[Cycle], model: str, covariates: Sequence[str] = ()) -> Batch:
        if model not in PARAMETERS:
            raise UnknownNameError("the prior's model is not known", value=model, expected=list(PARAMETERS))
        seen = usable(cycles)
        samples = [check_samples(c.times_h, c.activity_mbq, c.half_life_h, c.u_activity_mbq) for c in seen]
        patients = sorted({(c.site, c.patient) for c in seen})
        if len(patients) < FEWEST_PATIENTS:
            raise QuantityError(
                "too few patients have two scans of the region", value=len(patients), expected=FEWEST_PATIENTS
            )
        sites = sorted({site for site, _ in patients})
        size = max(s.times_h.size for s in samples)
        times, data, inverse_u = np.ones((3, len(seen), size))
        inverse_u[:] = 0.0
        for i, s in enumerate(samples):
            own = slice(0, s.times_h.size)
            times[i, own], inverse_u[i, own] = s.times_h, 1.0 / s.u_activity_mbq
            data[i, own] = s.activity_mbq / s.u_activity_mbq
        data[inverse_u == 0.0] = 0.0
        values = np.array([_covariates_of(seen, patient, covariates) for patient in patients])
        centres = values.mean(axis=0)
        return cls(
            model=model,
            times_h=times,
            data=data,
            inverse_u=inverse_u,
            slowest_per_h=np.array([s.decay_constant_per_h for s in samples]),
            patient_of=np.array([patients.index((c.site, c.patient)) for c in seen]),
            site_of=np.array([sites.index(site) for site, _ in patients]),
            patients=tuple(patients),
            sites=tuple(sites),
            values=values - centres,
            centres=centres,
        )

    def chi2(self, x: Array) -> Array:
        """Of each cycle ``(c,)`` at nodes ``(c, m, d)``, best amplitude put in; ``(c, m)``."""
        return chi2_of(LogShape(self.model, x, self.slowest_per_h[:, None]), self.times_h, self.data, self.inverse_u)


def _covariates_of(cycles: Sequence[Cycle], patient: tuple[str, str], names: Sequence[str]) -> list[float]:
    """Means over the patient's cycles."""
    own = [c for c in cycles if (c.site, c.patient) == patient]
    missing = sorted({name for name in names for c in own if name not in c.covariates})
    if missing:
        raise QuantityError("a patient lacks a covariate", value=(patient, missing))
    return [sum(c.covariates[name] for c in own) / len(own) for name in names]
