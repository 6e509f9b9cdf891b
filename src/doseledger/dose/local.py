"""Local energy deposition (``led``)."""

from __future__ import annotations

from doseledger.dose.interface import DoseProblem, EnergyMaps


def local_energy_deposition(problem: DoseProblem) -> EnergyMaps:
    """Energy absorbed in each voxel.

    Electrons, alpha particles and recoils of the nuclide and its daughters in place stop in the
    voxel where they are emitted; photons leave without a trace. Photons carry 19 % of the energy
    of 177Lu and their part of the absorbed dose is missing: some 2 % in kidneys, 7 % in the liver,
    26 % in bone.
    """
    energy, tia = problem.nuclide.in_place, problem.tia
    high_let_kev = energy.alpha_kev + energy.recoil_kev
    return EnergyMaps(
        low_let=tia,
        kev=energy.electron_kev,
        high_let=tia if high_let_kev > 0 else None,
        high_let_kev=high_let_kev,
        escaped_kev=problem.tia_sum * energy.photon_kev,
    )
