"""A phantom scan measured: blur, response and recovery of its bodies, or the reason why it must not be used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.activity.blur_fit import BlurFit, fit_blur
from doseledger.activity.phantom_shapes import block_around, holds
from doseledger.activity.sensitivity import Response, measure_response, noise_in_volume
from doseledger.activity.sphere_search import find_nema_spheres
from doseledger.errors import CrossCheckError, PhantomError, QuantityError, TimeError
from doseledger.geometry import Grid, Vector
from doseledger.io.phantoms import Body, PhantomImage, PhantomScan, outlined_centres, read_phantom_image
from doseledger.units import SECONDS_PER_HOUR

#: Seen around the bodies in the fit, mm: three times a usual blur.
FIT_MARGIN_MM: Final = 36.0
#: Root mean square of what the model leaves over that of the image. Edges of reconstructions with resolution recovery
#: overshoot; 0.15 is usual for spheres, and another phantom leaves more than half.
LARGEST_RESIDUAL_REL: Final = 0.35
#: Background over the concentration in the bodies: the study is of hot bodies in cold water.
LARGEST_BACKGROUND_REL: Final = 0.05
#: A body with less of the median concentration was not filled; the fit of the smallest sphere scatters by a fifth.
LEAST_CONCENTRATION_REL: Final = 0.3
#: Activity in the field away from the bodies.
LARGEST_OUTSIDE_SHARE: Final = 0.10
#: No camera and window of a therapy nuclide is outside of this, cps/MBq: a slip of MBq and GBq is.
SENSITIVITY_RANGE_CPS_PER_MBQ: Final = (0.5, 500.0)
#: Images in Bq/mL are calibrated within this factor, or something else is wrong.
LARGEST_CALIBRATION_FACTOR: Final = 2.0
#: Half-lives between activity meter and scan: decay is right, but nobody should rest on a tail.
MOST_HALF_LIVES: Final = 5.0


@dataclass(frozen=True, eq=False)
class MeasuredBody:
    """A body in the image.

    Attributes
    ----------
    centre_mm
        Where the fit found it, LPS.
    activity_mbq
        True activity at scan start.
    seen
        Content of the image inside the body, MBq or cps.
    """

    body: Body
    centre_mm: Vector
    activity_mbq: float
    seen: float

    @property
    def response(self) -> float:
        return self.seen / self.activity_mbq


@dataclass(frozen=True, eq=False)
class MeasuredScan:
    """A scan and what it shows.

    Attributes
    ----------
    response
        Of the whole phantom: all bodies with their blurred edges, per MBq.
    block
        The part of the image that `blur` was fitted to.
    """

    scan: PhantomScan
    image: PhantomImage
    blur: BlurFit
    response: float
    bodies: tuple[MeasuredBody, ...]
    block: tuple[slice, slice, slice]
    even: Response | None

    @property
    def day(self) -> datetime:
        return self.image.scan_start

    def noise_rel(self, body: MeasuredBody, cylinder: MeasuredScan) -> float:
        """Relative noise of what is seen inside a body, from volumes of its size all over the even cylinder.

        The variance of a reconstruction goes with the activity: the relative noise falls with the square root of
        concentration and duration.
        """
        (even,) = cylinder.bodies
        noise = noise_in_volume(
            cylinder.image.array,
            cylinder.image.grid,
            even.body.shape,
            even.centre_mm,
            body.body.shape,
            fwhm_mm=cylinder.blur.mean_fwhm_mm,
        )
        counted = even.seen / even.body.volume_ml * (cylinder.image.provenance.duration_s or 1.0)
        counted /= body.seen / body.body.volume_ml * (self.image.provenance.duration_s or 1.0)
        return noise * float(np.sqrt(counted))


def measure_scan(scan: PhantomScan, base: Path) -> MeasuredScan:
    """Read a scan, find its bodies, and fit their blur.

    Raises
    ------
    PhantomError
        Another phantom, a missing body, a hot background, a cut-off phantom, an activity that cannot be.
    DoseledgerError
        Images or outlines that cannot be read.
    """
    image = read_phantom_image(scan, base)
    if image.provenance.header_nuclide not in (None, scan.source.name):
        raise CrossCheckError(
            "header and phantom sheet name different nuclides",
            path=scan.spect,
            tag="nuclide",
            value=scan.source.name,
            expected=image.provenance.header_nuclide,
        )
    expected = _expected_centres(scan, image, base)
    for body in scan.bodies:
        _require_in_field(scan, body, image.grid, expected[body.name], 0.0)
    block = _block(scan, image.grid, expected)
    fractions = np.stack([b.shape.fraction(image.grid, expected[b.name])[block] for b in scan.bodies])
    try:
        blur = fit_blur(image.array[block], fractions, image.grid.spacing_mm)
    except QuantityError as error:
        raise PhantomError(error.what, path=scan.spect, value=error.value, expected=error.expected) from None
    shift = np.asarray(image.grid.direction).T @ np.asarray(blur.shift_mm)
    bodies = []
    for body in scan.bodies:
        x, y, z = (float(v) for v in np.asarray(expected[body.name]) + shift)
        _require_in_field(scan, body, image.grid, (x, y, z), blur.mean_fwhm_mm)
        bodies.append(_measured(scan, body, image, (x, y, z)))
    _require_the_phantom(scan, blur)
    total = float(image.array.sum()) * image.grid.voxel_volume_ml / sum(b.activity_mbq for b in bodies)
    even = None
    if scan.phantom == "cylinder":
        even = measure_response(
            image.array,
            image.grid,
            bodies[0].body.shape,
            bodies[0].centre_mm,
            activity_mbq=bodies[0].activity_mbq,
            fwhm_mm=blur.mean_fwhm_mm,
        )
        if abs(even.outside_share) > LARGEST_OUTSIDE_SHARE:
            raise PhantomError(
                "much of the activity in the field is not in the phantom",
                path=scan.spect,
                value=f"{even.outside_share:.0%}",
                expected=f"at most {LARGEST_OUTSIDE_SHARE:.0%}",
            )
    response = even.value if even is not None else total
    _require_plausible(scan, image, response)
    return MeasuredScan(scan, image, blur, response, tuple(bodies), block, even)


def _expected_centres(scan: PhantomScan, image: PhantomImage, base: Path) -> dict[str, Vector]:
    outlined = outlined_centres(scan, base, image.provenance.frame_of_reference_uid)
    if outlined is not None:
        return outlined
    if scan.phantom == "cylinder" and len(scan.bodies) == 1:
        weights = np.clip(image.array, 0.0, None)
        index = [
            float((weights.sum(axis=tuple({0, 1, 2} - {axis})) * np.arange(n)).sum() / weights.sum())
            for axis, n in enumerate(image.grid.shape)
        ]
        return {scan.bodies[0].name: image.grid.position_mm(np.asarray(index))}
    if scan.phantom == "nema":
        found = find_nema_spheres(image.array, image.grid)
        by_size = {body.name: found.get(body.shape.size_mm[0]) for body in scan.bodies}
        if all(centre is not None for centre in by_size.values()):
            return {name: centre for name, centre in by_size.items() if centre is not None}
    raise PhantomError(
        "nobody has said where the bodies of the phantom are",
        path=scan.spect,
        tag="contours",
        remedy="Name a structure set with an outline of every body; only a single cylinder and the spheres of a NEMA "
        "phantom are found without.",
    )


def _block(scan: PhantomScan, grid: Grid, centres: dict[str, Vector]) -> tuple[slice, slice, slice]:
    blocks = []
    for body in scan.bodies:
        width, depth, height = (size + 2.0 * FIT_MARGIN_MM for size in body.shape.size_mm)
        blocks.append(block_around(grid, centres[body.name], (width, depth, height)))
    z, y, x = (slice(min(b[k].start for b in blocks), max(b[k].stop for b in blocks)) for k in range(3))
    return (z, y, x)


def _measured(scan: PhantomScan, body: Body, image: PhantomImage, centre_mm: Vector) -> MeasuredBody:
    hours = (image.scan_start - body.activity_time).total_seconds() / SECONDS_PER_HOUR
    if abs(hours) > MOST_HALF_LIVES * scan.source.half_life_h:
        raise TimeError(
            "activity meter and scan are too far apart",
            path=scan.spect,
            tag="activity_time",
            value=f"{hours:.0f} h",
            expected=f"at most {MOST_HALF_LIVES:g} half-lives of {scan.source.half_life_h:.0f} h",
        )
    inside = body.shape.fraction(image.grid, centre_mm)
    return MeasuredBody(
        body=body,
        centre_mm=centre_mm,
        activity_mbq=body.activity_mbq * 0.5 ** (hours / scan.source.half_life_h),
        seen=float((image.array * inside).sum()) * image.grid.voxel_volume_ml,
    )


def _require_in_field(scan: PhantomScan, body: Body, grid: Grid, centre_mm: Vector, margin_mm: float) -> None:
    x, y, z = (size + 2.0 * margin_mm for size in body.shape.size_mm)
    if not holds(grid, centre_mm, (x, y, z)):
        raise PhantomError(
            f"{body.name} with its blurred edge is cut off by the field of view",
            path=scan.spect,
            tag="body",
            value=f"centre at {', '.join(f'{c:.0f}' for c in centre_mm)} mm",
            remedy="Image the whole phantom: a part of it says nothing of its activity.",
        )


def _require_the_phantom(scan: PhantomScan, blur: BlurFit) -> None:
    per_activity = [
        c * body.volume_ml / body.activity_mbq for c, body in zip(blur.concentrations, scan.bodies, strict=True)
    ]
    median = float(np.median(per_activity))
    typical = float(np.median(blur.concentrations))
    for value, body in zip(per_activity, scan.bodies, strict=True):
        if not value > LEAST_CONCENTRATION_REL * median:
            raise PhantomError(
                f"{body.name} is missing in the image",
                path=scan.spect,
                tag="body",
                value=f"{value / median:.0%} of the concentration of the others" if median > 0 else "no activity",
                expected=f"more than {LEAST_CONCENTRATION_REL:.0%}",
            )
    if abs(blur.background) > LARGEST_BACKGROUND_REL * typical:
        raise PhantomError(
            "the water around the bodies is not cold",
            path=scan.spect,
            value=f"{blur.background / typical:.1%} of the concentration in the bodies",
            expected=f"at most {LARGEST_BACKGROUND_REL:.0%}",
            remedy="Fill the bodies alone: recovery is that of hot bodies in cold water.",
        )
    if blur.residual_rel > LARGEST_RESIDUAL_REL:
        raise PhantomError(
            "the image does not look like the phantom",
            path=scan.spect,
            tag="phantom",
            value=f"{blur.residual_rel:.0%} of it are left over",
            expected=f"at most {LARGEST_RESIDUAL_REL:.0%}",
        )


def _require_plausible(scan: PhantomScan, image: PhantomImage, response: float) -> None:
    low, high = 1.0 / LARGEST_CALIBRATION_FACTOR, LARGEST_CALIBRATION_FACTOR
    unit = "of the declared activity"
    if image.in_counts:
        (low, high), unit = SENSITIVITY_RANGE_CPS_PER_MBQ, "cps/MBq"
    if not low <= response <= high:
        raise PhantomError(
            "image and activity contradict each other",
            path=scan.spect,
            tag="activity_mbq",
            value=f"{response:.3g} {unit}",
            expected=f"{low:g} to {high:g} {unit}",
            remedy="Is the activity in MBq (not GBq or kBq), and is its time the one it was measured at?",
        )
