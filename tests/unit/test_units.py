"""Constants and conversions: exact where the SI is exact, and no unknown unit counts as one."""

from __future__ import annotations

from math import erf, sqrt

import pytest
from scipy import constants

from doseledger.errors import UnitError
from doseledger.units import (
    BQ_PER_MBQ,
    BQ_PER_ML_FACTORS,
    FWHM_PER_SD,
    J_PER_KEV,
    MBQ_PER_GBQ,
    MM3_PER_ML,
    bq_per_ml_factor,
    kev_per_decay_to_gy_g_per_mbq_h,
)


def test_constants_agree_with_codata_and_the_si() -> None:
    assert pytest.approx(1e3 * constants.electron_volt, rel=1e-15) == J_PER_KEV
    assert (1e6, 1e3, (constants.centi / constants.milli) ** 3) == (BQ_PER_MBQ, MBQ_PER_GBQ, MM3_PER_ML)


def test_a_gaussian_has_half_its_maximum_at_half_the_fwhm() -> None:
    assert pytest.approx(2.354820045, rel=1e-9) == FWHM_PER_SD
    # The share between the two half maxima is the textbook 76.1 %.
    assert erf(FWHM_PER_SD / 2 / sqrt(2.0)) == pytest.approx(0.7609681, abs=1e-7)


@pytest.mark.parametrize(("unit", "factor"), BQ_PER_ML_FACTORS.items())
def test_known_units_of_activity_concentration(unit: str, factor: float) -> None:
    prefix = {"k": 1e3, "M": 1e6}.get(unit[0], 1.0)
    assert bq_per_ml_factor(unit) == factor == prefix


@pytest.mark.parametrize("unit", ["GML", "CNTS", "PROPCPS", "", "bqml", "BQML ", "kBq", "1/ml", "Bq/l"])
def test_an_unknown_unit_is_refused_and_never_a_factor_of_one(unit: str) -> None:
    with pytest.raises(UnitError) as caught:
        bq_per_ml_factor(unit, path="t1/spect/001.dcm", tag="Units (0054,1001)")
    assert caught.value.code == "unit_unknown"
    sentence = caught.value.sentence
    assert "file t1/spect/001.dcm; tag Units (0054,1001)" in sentence
    assert f"found {unit!r}; expected 'BQML'" in sentence


def test_the_dose_constant_is_energy_per_mass_and_decay() -> None:
    # 1 MBq for 1 h are 3.6e9 decays; 1 g is 1e-3 kg.
    assert kev_per_decay_to_gy_g_per_mbq_h(1.0) == pytest.approx(
        1e3 * constants.electron_volt * 3.6e9 / 1e-3, rel=1e-14
    )
    assert kev_per_decay_to_gy_g_per_mbq_h(0.0) == 0.0
