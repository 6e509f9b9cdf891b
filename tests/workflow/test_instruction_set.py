"""The same cohort with other instructions of the processor: within the tolerances of docs/sameness.md."""

from __future__ import annotations

import pytest

from doseledger import audit

from .conftest import Cohort

pytestmark = pytest.mark.workflow

#: As on a processor of 2011: no AVX-512, no AVX2, generic code of the compiled engines and fits.
OTHER = {
    "NUMBA_CPU_NAME": "generic",
    "OPENBLAS_CORETYPE": "Sandybridge",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def test_another_instruction_set_stays_within_the_tolerances(micro: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    config = micro.config.with_name("other.yaml")
    config.write_text(micro.config.read_text().replace("../results", "../other/results"))
    other = Cohort(micro.folder / "other", config)
    other.folder.mkdir()
    for name, value in OTHER.items():
        monkeypatch.setenv(name, value)
    done = other.run()
    assert done.returncode == 0, done.stdout + done.stderr
    compared = other.call("doseledger.cli", "verify", str(micro.results), "--against", str(other.results))
    assert compared.returncode == 0, compared.stdout
    # The other code was really used: some last digit is another one.
    assert audit.hashes(micro.results) != audit.hashes(other.results)
