"""Tissues of the virtual body: CT number, density, material and activity relative to the rest of the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Materials by index, for transport: what a voxel is made of, beside its density.
MATERIALS: Final = ("air", "lung", "adipose", "soft tissue", "marrow", "bone")
AIR, LUNG, ADIPOSE, SOFT, MARROW, BONE = range(len(MATERIALS))

AIR_HU: Final = -1000.0
AIR_G_PER_ML: Final = 0.0012


@dataclass(frozen=True)
class Tissue:
    """A tissue as CT and camera see it.

    Attributes
    ----------
    hu, contrast_hu
        CT number without contrast medium, and in the portal venous phase.
    texture_hu
        Standard deviation of the CT number from place to place.
    density_g_per_ml
        ICRU Report 46 and Woodard and White 1986. Contrast medium does not change it.
    material
        Index into `MATERIALS`.
    uptake
        Activity per volume over the mean of the body without the organs that have curves of their own.
    """

    hu: float
    density_g_per_ml: float
    material: int = SOFT
    contrast_hu: float | None = None
    texture_hu: float = 0.0
    uptake: float = 1.0

    def seen_hu(self, contrast: bool) -> float:
        return self.hu if self.contrast_hu is None or not contrast else self.contrast_hu


SKIN: Final = Tissue(0.0, 1.05)
FAT: Final = Tissue(-102.0, 0.95, ADIPOSE, texture_hu=7.0, uptake=0.4)
MUSCLE: Final = Tissue(52.0, 1.05, contrast_hu=62.0, texture_hu=6.0)
#: Fat around the bowel, with its vessels.
MESENTERY: Final = Tissue(-96.0, 0.95, ADIPOSE, texture_hu=22.0, uptake=0.6)
LUNG_TISSUE: Final = Tissue(-830.0, 0.26, LUNG, texture_hu=28.0, uptake=0.4)
BLOOD: Final = Tissue(43.0, 1.06, contrast_hu=150.0, uptake=2.5)
HEART: Final = Tissue(44.0, 1.05, contrast_hu=120.0, texture_hu=10.0, uptake=2.0)
GUT_WALL: Final = Tissue(42.0, 1.04, contrast_hu=75.0, uptake=2.2)
GUT_CONTENT: Final = Tissue(16.0, 1.03, texture_hu=14.0, uptake=1.6)
STOMACH_CONTENT: Final = Tissue(12.0, 1.02, texture_hu=12.0, uptake=0.6)
#: Stool is mottled with gas.
STOOL: Final = Tissue(-25.0, 0.96, texture_hu=65.0, uptake=1.2)
GAS: Final = Tissue(-985.0, AIR_G_PER_ML, AIR, uptake=0.0)
BILE: Final = Tissue(9.0, 1.02, uptake=2.0)
PANCREAS: Final = Tissue(38.0, 1.04, contrast_hu=95.0, texture_hu=16.0, uptake=4.0)
ADRENAL: Final = Tissue(22.0, 1.03, contrast_hu=70.0, uptake=9.0)
BRAIN: Final = Tissue(36.0, 1.04, texture_hu=6.0, uptake=0.3)
CORTICAL_BONE: Final = Tissue(560.0, 1.36, BONE, texture_hu=40.0, uptake=0.4)
SPONGIOSA: Final = Tissue(190.0, 1.14, MARROW, texture_hu=35.0)
DISC: Final = Tissue(85.0, 1.10, uptake=0.5)
CARTILAGE: Final = Tissue(110.0, 1.10, uptake=0.5)
NERVE: Final = Tissue(30.0, 1.04, uptake=0.5)

KIDNEY: Final = Tissue(34.0, 1.05, contrast_hu=165.0, texture_hu=7.0)
KIDNEY_PELVIS: Final = Tissue(12.0, 1.02, contrast_hu=40.0)
LIVER: Final = Tissue(57.0, 1.06, contrast_hu=108.0, texture_hu=7.0)
SPLEEN: Final = Tissue(48.0, 1.06, contrast_hu=118.0, texture_hu=7.0)
LESION: Final = Tissue(40.0, 1.05, contrast_hu=82.0, texture_hu=10.0)
BONE_LESION: Final = Tissue(420.0, 1.27, BONE, texture_hu=60.0)
SALIVARY: Final = Tissue(22.0, 1.03, contrast_hu=70.0, texture_hu=14.0)
URINE: Final = Tissue(6.0, 1.01)
