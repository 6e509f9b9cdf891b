"""Population kinetics of the virtual radiopharmaceuticals; half-lives are effective, for 177Lu."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from doseledger.phantom.habitus import Sex
from doseledger.phantom.lesions import Place

#: Physical half-life inside the effective half-lives of this module (177Lu), h.
POPULATION_HALF_LIFE_H: Final = 159.528


@dataclass(frozen=True)
class Uptake:
    """Population kinetics of one kind of organ.

    Attributes
    ----------
    per_kg, per_kg_sd
        Median of the uptake per kilogram of organ, over the administered activity, and standard
        deviation of its logarithm.
    terminal_h, terminal_sd
        Median terminal half-life, and standard deviation of ln of its *biological* part.
    fast_h, fast_share
        Half-life and share of the first clearance phase.
    uptake_h
        Half-life of the uptake phase.
    """

    per_kg: float
    per_kg_sd: float
    terminal_h: float
    terminal_sd: float
    fast_h: float
    fast_share: float
    uptake_h: float


@dataclass(frozen=True)
class Pharmaceutical:
    """A radiopharmaceutical and the patients who get it.

    Attributes
    ----------
    uptake
        By kind of organ: kidney, liver, spleen, parotid, submandibular, marrow, lesion.
    rest_of_body
        Share of the activity and effective half-life of each phase outside of these organs.
    women
        Share of women among the patients.
    lesion_places
        Probability of each place of a lesion.
    """

    name: str
    nuclide: str
    nominal_mbq: float
    infusion_min: float
    preparation: str
    uptake: Mapping[str, Uptake]
    rest_of_body: tuple[tuple[float, float], ...]
    women: float
    lesion_places: Mapping[Place, float]
    diagnoses: tuple[str, ...]

    def sex(self, draw: float) -> Sex:
        return "F" if draw < self.women else "M"


#: Medians after published means, Gy per GBq: kidneys 0.38 to 0.57, liver 0.27, spleen 1.17. Terminal
#: half-lives: kidneys 51 h (40 to 65), liver 65 h, spleen 68 h, tumour 80 h (50 to 140).
DOTATATE: Final = Pharmaceutical(
    name="Lu177-DOTATATE",
    nuclide="Lu-177",
    nominal_mbq=7400.0,
    infusion_min=30.0,
    preparation="amino acid infusion",
    uptake={
        "kidney": Uptake(0.094, 0.20, terminal_h=51.0, terminal_sd=0.18, fast_h=14.0, fast_share=0.30, uptake_h=1.2),
        "liver": Uptake(0.040, 0.30, terminal_h=65.0, terminal_sd=0.25, fast_h=18.0, fast_share=0.25, uptake_h=1.0),
        "spleen": Uptake(0.158, 0.32, terminal_h=68.0, terminal_sd=0.25, fast_h=20.0, fast_share=0.20, uptake_h=1.0),
        "parotid": Uptake(0.016, 0.30, terminal_h=45.0, terminal_sd=0.30, fast_h=10.0, fast_share=0.30, uptake_h=0.8),
        "submandibular": Uptake(
            0.016, 0.30, terminal_h=45.0, terminal_sd=0.30, fast_h=10.0, fast_share=0.30, uptake_h=0.8
        ),
        "marrow": Uptake(0.0078, 0.30, terminal_h=50.0, terminal_sd=0.30, fast_h=8.0, fast_share=0.45, uptake_h=0.4),
        "lesion": Uptake(0.420, 0.55, terminal_h=80.0, terminal_sd=0.45, fast_h=24.0, fast_share=0.15, uptake_h=2.5),
    },
    rest_of_body=((0.86, 2.2), (0.14, 36.0)),
    women=0.48,
    lesion_places={"liver": 0.62, "node": 0.23, "bone": 0.15},
    diagnoses=("ileum NET G1", "ileum NET G2", "pancreas NET G2", "NET of unknown primary G2"),
)

#: Medians after published means, Gy per GBq: kidneys 0.53 to 0.82, parotid glands 0.6 to 1.9, marrow
#: 0.03. Terminal half-lives: kidneys 35.5 h (8.5 to 152), liver 22.9 h, spleen 16.8 h, parotid glands
#: 42.2 h, marrow 32.0 h.
PSMA_617: Final = Pharmaceutical(
    name="Lu177-PSMA-617",
    nuclide="Lu-177",
    nominal_mbq=7400.0,
    infusion_min=10.0,
    preparation="intravenous fluids",
    uptake={
        "kidney": Uptake(0.188, 0.30, terminal_h=35.5, terminal_sd=0.45, fast_h=10.0, fast_share=0.30, uptake_h=1.0),
        "liver": Uptake(0.046, 0.30, terminal_h=22.9, terminal_sd=0.30, fast_h=6.0, fast_share=0.30, uptake_h=0.9),
        "spleen": Uptake(0.085, 0.40, terminal_h=16.8, terminal_sd=0.35, fast_h=5.0, fast_share=0.30, uptake_h=0.8),
        "parotid": Uptake(0.205, 0.35, terminal_h=42.2, terminal_sd=0.30, fast_h=10.0, fast_share=0.25, uptake_h=0.8),
        "submandibular": Uptake(
            0.170, 0.35, terminal_h=40.0, terminal_sd=0.30, fast_h=10.0, fast_share=0.25, uptake_h=0.8
        ),
        "marrow": Uptake(0.0105, 0.35, terminal_h=32.0, terminal_sd=0.35, fast_h=8.0, fast_share=0.40, uptake_h=0.4),
        "lesion": Uptake(0.480, 0.65, terminal_h=52.0, terminal_sd=0.40, fast_h=15.0, fast_share=0.15, uptake_h=2.0),
    },
    rest_of_body=((0.84, 2.0), (0.16, 30.0)),
    women=0.0,
    lesion_places={"liver": 0.10, "node": 0.45, "bone": 0.45},
    diagnoses=("mCRPC, bone and nodes", "mCRPC, nodes", "mCRPC after docetaxel"),
)
