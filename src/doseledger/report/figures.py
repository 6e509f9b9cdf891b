"""Pictures of a cycle, and what all figures share: style, palette and bit-identical embedding.

Figures are drawn with matplotlib's object interface (no pyplot, no display, no state between
figures) and come back as data URIs, so that a page needs no second file and no network.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.typing import RcKeyType
from numpy.typing import NDArray

from doseledger.errors import GeometryError
from doseledger.geometry import Vector

FloatImage = NDArray[np.floating[Any]]
LabelImage = NDArray[np.integer[Any]]

ACCENT: Final = "#1f5673"
INK: Final = "#1d2429"
MUTED: Final = "#66727b"
FAINT: Final = "#dfe4e8"

#: Per index: a colour that shows on CT and on the hot scale, and its dark twin for white paper.
#: Beyond the eighth region the colours repeat with another line style.
_BRIGHT: Final = ("#4cc9ff", "#7cfc6a", "#ff7bf0", "#ffffff", "#b3aeff", "#00f0c0", "#ffd9a0", "#c3d2e0")
_DARK: Final = ("#0072b2", "#2e8b2e", "#b8308a", "#333333", "#5b4fcf", "#00877a", "#b35900", "#607080")
_DASHES: Final[tuple[tuple[str, str], ...]] = (("-", "solid"), ("--", "dashed"), (":", "dotted"))

#: Soft-tissue window, HU: level 40, width 400.
_CT_WINDOW_HU: Final = (-160.0, 240.0)
#: The colour scale of activity and dose ends at this percentile, so that one hot voxel hides nothing.
_TOP_PERCENTILE: Final = 99.8
#: Overlay is transparent at zero and reaches this opacity at `_OPAQUE_FROM` of the scale.
_OPACITY: Final = 0.85
_OPAQUE_FROM: Final = 0.5
_WIDTH_IN: Final = 3.6
_BAR_IN: Final = 0.55
_DPI: Final = 160
BQ_PER_KBQ: Final = 1.0e3

#: Overrides matplotlib's own defaults (a user's matplotlibrc must not change a page).
_STYLE: Final[dict[RcKeyType, Any]] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.unicode_minus": True,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # names come from sheets: a dollar sign is not mathematics
    "svg.hashsalt": "doseledger",
    "svg.fonttype": "path",
}


@dataclass(frozen=True, eq=False)
class CycleSlices:
    """Slices of one cycle at the reference time point, for looking at.

    All arrays lie on one grid whose rows and columns follow the patient: in ``coronal`` (z, x)
    the first row is the lowest and the first column the patient's right; in ``axial`` (y, x)
    the first row is the front.

    Attributes
    ----------
    time_h
        Scan start after mid-injection, h.
    spacing_mm
        Voxel size ``(z, y, x)``, mm.
    ct_coronal, ct_axial
        CT numbers, HU; None without CT.
    spect_coronal_mip, spect_axial
        Activity concentration, Bq/mL; coronal is the maximum along the viewing direction.
    labels_coronal, labels_axial
        Label of each pixel, 0 outside every region, in the slices of the CT.
    label_names
        Region name of each label.
    dose_coronal
        Absorbed dose, Gy, in the slice of the CT; None where there is no dose.
    notice
        Printed in red on every picture.

    Raises
    ------
    GeometryError
        Two coronal or two axial arrays differ in shape, or the spacing is not positive.
    """

    cycle: int
    time_h: float
    spacing_mm: Vector
    ct_coronal: FloatImage | None
    spect_coronal_mip: FloatImage
    ct_axial: FloatImage | None
    spect_axial: FloatImage
    labels_coronal: LabelImage
    labels_axial: LabelImage
    label_names: dict[int, str]
    dose_coronal: FloatImage | None
    notice: str | None = None

    def __post_init__(self) -> None:
        if not all(np.isfinite(self.spacing_mm)) or min(self.spacing_mm) <= 0:
            raise GeometryError("the voxel spacing of the pictures is not positive", value=self.spacing_mm)
        coronal = (self.spect_coronal_mip, self.ct_coronal, self.labels_coronal, self.dose_coronal)
        axial = (self.spect_axial, self.ct_axial, self.labels_axial)
        for plane, images in (("coronal", coronal), ("axial", axial)):
            shapes = [image.shape for image in images if image is not None]
            if len(shapes[0]) != 2 or len(set(shapes)) != 1:
                raise GeometryError(f"the {plane} pictures of cycle {self.cycle} differ in shape", value=shapes)

    def regions_shown(self) -> list[str]:
        """Names of the regions that appear in one of the slices."""
        labels = np.union1d(self.labels_coronal, self.labels_axial)
        return [self.region_of(int(label)) for label in labels if label != 0]

    def region_of(self, label: int) -> str:
        """A label without a name keeps its number: it is shown, not dropped."""
        return self.label_names.get(label, f"label_{label}")


@dataclass(frozen=True)
class Mark:
    """How one region is drawn: number in pictures, colours, and style of its line."""

    number: int
    bright: str
    dark: str
    linestyle: str
    css_style: str


def mark(index: int) -> Mark:
    """Mark of the region at `index` (from 0) of the page's list of regions."""
    colour = index % len(_BRIGHT)
    linestyle, css_style = _DASHES[index // len(_BRIGHT) % len(_DASHES)]
    return Mark(index + 1, _BRIGHT[colour], _DARK[colour], linestyle, css_style)


def fused_picture(slices: CycleSlices, plane: Literal["coronal", "axial"], marks: Mapping[str, Mark]) -> str:
    """CT in grey with SPECT in the hot scale over it and the outlines, as a PNG data URI."""
    coronal = plane == "coronal"
    ct = slices.ct_coronal if coronal else slices.ct_axial
    spect = (slices.spect_coronal_mip if coronal else slices.spect_axial) / BQ_PER_KBQ
    name = "SPECT maximum" if coronal else "SPECT"
    return _picture(slices, plane, ct, spect, marks, scale="hot", label=f"{name} at scan start, kBq/mL")


def dose_picture(slices: CycleSlices, marks: Mapping[str, Mark]) -> str | None:
    """CT in grey with absorbed dose over it, as a PNG data URI; None where there is no dose."""
    if slices.dose_coronal is None:
        return None
    dose = slices.dose_coronal
    return _picture(slices, "coronal", slices.ct_coronal, dose, marks, scale="viridis", label="absorbed dose, Gy")


def _picture(
    slices: CycleSlices,
    plane: Literal["coronal", "axial"],
    ct: FloatImage | None,
    overlay: FloatImage,
    marks: Mapping[str, Mark],
    *,
    scale: str,
    label: str,
) -> str:
    labels = slices.labels_coronal if plane == "coronal" else slices.labels_axial
    row_mm = slices.spacing_mm[0] if plane == "coronal" else slices.spacing_mm[1]
    width_mm, height_mm = overlay.shape[1] * slices.spacing_mm[2], overlay.shape[0] * row_mm
    picture_in = _WIDTH_IN * height_mm / width_mm

    def draw(figure: Figure) -> None:
        total_in = picture_in + _BAR_IN
        axes = figure.add_axes((0.0, _BAR_IN / total_in, 1.0, picture_in / total_in))
        axes.set_axis_off()
        # Feet at the bottom (z grows to the head), front at the top (y grows to the back); x grows
        # to the patient's left, so the first column, the patient's right, is on the left.
        box = (0.0, width_mm, 0.0, height_mm) if plane == "coronal" else (0.0, width_mm, height_mm, 0.0)
        origin: Literal["lower", "upper"] = "lower" if plane == "coronal" else "upper"
        if ct is not None:
            low, high = _CT_WINDOW_HU
            axes.imshow(ct, cmap="gray", vmin=low, vmax=high, extent=box, origin=origin, interpolation="bilinear")
        image = _overlay(axes, overlay, matplotlib.colormaps[scale], opaque=ct is None, extent=box, origin=origin)
        _outlines(axes, slices, labels, (row_mm, slices.spacing_mm[2]), marks)
        _orientation(axes, "H" if plane == "coronal" else "A")
        if slices.notice is not None:
            axes.annotate(
                slices.notice,
                (0.5, 0.0),
                xycoords="axes fraction",
                xytext=(0, 6),
                textcoords="offset points",
                color="#ff4d4d",
                fontsize=9,
                fontweight="bold",
                ha="center",
                path_effects=[patheffects.withStroke(linewidth=2.5, foreground="black")],
            )
        bar = figure.add_axes((0.06, 0.36 / total_in, 0.88, 0.09 / total_in))
        figure.colorbar(image, cax=bar, orientation="horizontal").outline.set_visible(False)
        bar.tick_params(labelsize=8, length=2, pad=2)
        bar.set_xlabel(label, fontsize=8, labelpad=1)

    return render(draw, width_in=_WIDTH_IN, height_in=picture_in + _BAR_IN, kind="png")


def _overlay(axes: Axes, values: FloatImage, colours: Colormap, *, opaque: bool, extent: Any, origin: Any) -> AxesImage:
    top = float(np.percentile(values, _TOP_PERCENTILE)) if values.max() > 0 else 1.0
    top = top if top > 0 else float(values.max())
    # The image that carries the colour bar is opaque; only its drawing on CT is see-through.
    alpha = None if opaque else np.clip(values / (top * _OPAQUE_FROM), 0.0, 1.0) * _OPACITY
    image = axes.imshow(
        values, cmap=colours, vmin=0.0, vmax=top, alpha=alpha, extent=extent, origin=origin, interpolation="bilinear"
    )
    return image


def _outlines(
    axes: Axes, slices: CycleSlices, labels: LabelImage, spacing_mm: tuple[float, float], marks: Mapping[str, Mark]
) -> None:
    shadow = [patheffects.withStroke(linewidth=2.2, foreground="black")]
    row_mm, column_mm = spacing_mm
    for label in np.unique(labels[labels != 0]):
        # One empty pixel around, so that an outline closes at the edge of the picture.
        mask = np.pad(labels == label, 1)
        style = marks[slices.region_of(int(label))]
        x_mm = (np.arange(mask.shape[1]) - 0.5) * column_mm
        y_mm = (np.arange(mask.shape[0]) - 0.5) * row_mm
        lines = axes.contour(
            x_mm, y_mm, mask.astype(float), levels=[0.5], colors=[style.bright], linestyles=style.linestyle
        )
        lines.set(linewidth=1.1)
        rows, columns = np.nonzero(mask)
        # The pixel of the region nearest to its centre: the centre itself may lie outside a bent one.
        nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        axes.text(
            x_mm[columns[nearest]],
            y_mm[rows[nearest]],
            str(style.number),
            color=style.bright,
            fontsize=7,
            ha="center",
            va="center",
            path_effects=shadow,
        )


def _orientation(axes: Axes, top: str) -> None:
    shadow = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    # In points from the edge, so that the letters stay whole in a low picture.
    for place, offset, letter in (((0.0, 0.5), (9, 0), "R"), ((1.0, 0.5), (-9, 0), "L"), ((0.5, 1.0), (0, -10), top)):
        axes.annotate(
            letter,
            place,
            xycoords="axes fraction",
            xytext=offset,
            textcoords="offset points",
            color="white",
            fontsize=10,
            fontweight="bold",
            ha="center",
            va="center",
            path_effects=shadow,
        )


def render(
    draw: Callable[[Figure], None], *, width_in: float, height_in: float, kind: Literal["png", "svg"] = "svg"
) -> str:
    """Let `draw` fill a figure and return it as a data URI; the same drawing gives the same bytes."""
    with _style():
        figure = Figure(figsize=(width_in, height_in), dpi=_DPI)
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        # Both formats would otherwise carry the version of matplotlib, and SVG the time of day.
        metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        figure.savefig(buffer, format=kind, metadata=metadata)
    media = "image/png" if kind == "png" else "image/svg+xml"
    return f"data:{media};base64,{b64encode(buffer.getvalue()).decode('ascii')}"


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield
