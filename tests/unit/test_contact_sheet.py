"""The contact sheet: outlines where the regions are, sides not mirrored, flags and mark shown, the same each time."""

from __future__ import annotations

import io
import struct
import tracemalloc
from dataclasses import replace
from math import cos, radians, sin
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from doseledger.errors import GeometryError, QuantityError, UnknownNameError
from doseledger.geometry import Grid
from doseledger.report.contact_sheet import FLAG_RED, ScanPanel, contact_sheet, region_styles
from doseledger.report.scan_pictures import Picture, ScanView

NAMES = {1: "kidney_left", 2: "kidney_right", 3: "liver", 4: "lesion_1"}
STYLES = region_styles(NAMES)
#: Largest difference of two neighbouring grey levels.
GREY_STEP = 5
#: Where the pictures start, and the height above which a mark of one line stands, pixels.
PICTURES_FROM = 270
MARK_TO = 70
CT_GRID = Grid((40, 50, 70), (5.0, 5.0, 5.0), (-175.0, -125.0, 0.0))
#: Blocks (z, y, x) of the phantom: the patient's left is at large x, the back at large y.
BLOCKS = {
    1: (slice(10, 18), slice(30, 38), slice(48, 56)),
    2: (slice(10, 18), slice(30, 38), slice(14, 22)),
    3: (slice(18, 30), slice(12, 34), slice(12, 34)),
    4: (slice(24, 27), slice(20, 23), slice(20, 23)),
}


def phantom(present: tuple[int, ...] = (1, 2, 3, 4), **changes: Any) -> ScanPanel:
    """A block of soft tissue in air with the regions; their activity is in the image of activity."""
    hu = np.full(CT_GRID.shape, -1000, np.int16)
    hu[:, 5:45, 5:65] = 0
    mask = np.zeros(CT_GRID.shape, np.uint8)
    for label in present:
        mask[BLOCKS[label]] = label
    spect = np.where(mask > 0, 1.0e5, 1.0e3).astype(np.float32)
    return replace(ScanPanel("24 h", mask, CT_GRID, hu, CT_GRID, spect, CT_GRID), **changes)


def sheet(*panels: ScanPanel, mark: str | None = None) -> bytes:
    return contact_sheet(panels, STYLES, title="P01, cycle 1", mark=mark)


def pixels(png: bytes) -> np.ndarray:
    return np.round(imread(io.BytesIO(png))[..., :3] * 255.0).astype(int)


def drawn(panel: ScanPanel) -> list[Picture]:
    """All five pictures, one pixel per mm."""
    pictures = ScanView(panel, NAMES).pictures(1.0, 1.0)
    assert all(pictures)
    return [picture for picture in pictures if picture]


def corners(picture: Picture, label: int) -> np.ndarray:
    """Left and upper, right and lower end of an outline."""
    points = np.concatenate(picture.outlines[label].lines)
    return np.array([points.min(axis=0), points.max(axis=0)])


def assert_same_outlines(found: Picture, expected: Picture, *, tolerance_px: float) -> None:
    assert set(found.outlines) == set(expected.outlines)
    for label in expected.outlines:
        assert corners(found, label) == pytest.approx(corners(expected, label), abs=tolerance_px)


def of_colour(image: np.ndarray, colour: str, tolerance: int = 30) -> np.ndarray:
    wanted = np.round(np.array(to_rgb(colour)) * 255.0)
    return np.abs(image - wanted).max(axis=-1) <= tolerance


def picture_columns(image: np.ndarray) -> list[tuple[int, int]]:
    """First and last column of each picture: they stand apart on white paper."""
    right = image[:, PICTURES_FROM:]
    dark = (right.max(axis=-1) < 60).sum(axis=1)
    inked = (right[int(np.argmax(dark > 300)) + 30] < 250).any(axis=-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inked.astype(int), [0]]))) + PICTURES_FROM
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a > 50]


def test_the_same_input_gives_the_same_bytes_without_time_or_version() -> None:
    png = sheet(phantom())
    assert png == sheet(phantom())
    assert struct.unpack(">I", png[16:20]) == (1600,)
    assert not any(chunk in png for chunk in (b"tEXt", b"tIME", b"iTXt", b"Software"))


def test_left_of_the_patient_is_right_in_the_pictures() -> None:
    assert [style.region for style in STYLES[:2]] == ["kidney_left", "kidney_right"]
    image = pixels(sheet(phantom()))
    coronal, axial, _, _, projection = picture_columns(image)
    for first, last in (coronal, axial, projection):
        half = (first + last) // 2
        left, right = of_colour(image, STYLES[0].colour), of_colour(image, STYLES[1].colour)
        assert left[:, half:last].sum() > 20
        assert left[:, first:half].sum() == 0
        assert right[:, first:half].sum() > 20
        assert right[:, half:last].sum() == 0


def test_outlines_enclose_their_region_at_its_place() -> None:
    coronal, axial, at_liver, sagittal, projection = drawn(phantom())
    assert [picture.caption for picture in (coronal, axial, at_liver, sagittal)] == [
        "Coronal, kidneys",
        "Axial, kidneys",
        "Axial, liver",
        "Sagittal, lesion 1",
    ]
    # The first bright column of the axial picture is the patient's right side, voxel 5.
    side_mm = int(np.argmax(axial.grey[100] > 50))
    assert corners(axial, 1)[:, 0] == pytest.approx([side_mm + 5.0 * (48 - 5), side_mm + 5.0 * (56 - 5)], abs=3.0)
    # Kidneys are at the back: low in the axial picture; the liver is above them: high in the coronal one.
    assert axial.outlines[1].middle[1] > axial.grey.shape[0] / 2
    assert projection.outlines[3].middle[1] < projection.outlines[1].middle[1]
    # The front is on the left of the sagittal picture: the liver begins 7 voxels behind the front of the body.
    front_mm = int(np.argmax(sagittal.grey[100] > 50))
    assert corners(sagittal, 3)[0, 0] == pytest.approx(front_mm + 35.0, abs=3.0)
    assert 3 in at_liver.outlines


def test_activity_lies_within_its_projected_outline() -> None:
    panel = phantom((1,))
    grid = Grid((30, 40, 40), (7.0, 9.0, 9.0), (170.0, 220.0, 195.0), ((0, 0, -1), (0, -1, 0), (-1, 0, 0)))
    assert panel.spect_bq_per_ml is not None
    centre = np.rint(grid.index(np.array([CT_GRID.position_mm(np.array([13.5, 33.5, 51.5]))]))[0]).astype(int)
    spect = np.ones(grid.shape, np.float32)
    spect[tuple(centre)] = 1.0e6
    picture = ScanView(replace(panel, spect_bq_per_ml=spect, spect_grid=grid), NAMES).pictures(1.0, 1.0)[-1]
    assert picture is not None
    bright = np.argwhere(picture.grey > 128).mean(axis=0)[::-1]
    # Half a voxel of the activity: its centre is the nearest to the middle of the kidney.
    assert np.abs(bright - picture.outlines[1].middle).max() < 5.0


def test_order_and_sense_of_the_axes_of_arrays_do_not_show() -> None:
    panel = phantom()
    order = (2, 0, 1)
    stored = Grid((70, 40, 50), (5.0, 5.0, 5.0), (170.0, -125.0, 195.0), ((-1, 0, 0), (0, 0, -1), (0, 1, 0)))

    def turned(values: Any) -> Any:
        return np.ascontiguousarray(np.flip(values.transpose(order), axis=(0, 1)))

    other = ScanPanel(
        "24 h", turned(panel.labels), stored, turned(panel.hu), stored, turned(panel.spect_bq_per_ml), stored
    )
    assert sheet(other) == sheet(panel)


def test_an_oblique_scan_is_drawn_along_its_voxels() -> None:
    c, s = cos(radians(10.0)), sin(radians(10.0))
    oblique = replace(CT_GRID, direction=((0.0, -s, c), (0.0, c, s), (1.0, 0.0, 0.0)))
    straight, tilted = phantom(), phantom(labels_grid=oblique, ct_grid=oblique, spect_grid=oblique)
    pairs = zip(drawn(straight), drawn(tilted), strict=True)
    for expected, found in pairs:
        assert np.abs(expected.grey.astype(int) - found.grey).max() <= GREY_STEP
        # Pixels half-way between voxels may fall to either.
        assert_same_outlines(found, expected, tolerance_px=1.0)


def test_a_region_has_one_colour_in_all_scans_and_sheets() -> None:
    image = pixels(sheet(phantom(), phantom((1, 2, 3))))
    half = image.shape[0] // 2
    for style in STYLES[:3]:
        assert of_colour(image[:half, PICTURES_FROM:], style.colour).sum() > 50
        assert of_colour(image[half:, PICTURES_FROM:], style.colour).sum() > 50
    looks = {style.region: (style.colour, style.linestyle) for style in region_styles({1: "heart", 9: "liver"})}
    again = {style.region: (style.colour, style.linestyle) for style in region_styles({4: "heart", 5: "kidney_left"})}
    assert looks["heart"] == again["heart"]


def test_many_regions_are_told_apart_as_long_as_there_are_looks() -> None:
    styles = region_styles({label: f"vertebrae_{label}" for label in range(1, 19)})
    assert len({(style.colour, style.linestyle) for style in styles}) == 18
    assert len(region_styles({label: f"rib_{label}" for label in range(1, 60)})) == 59


def test_flags_are_red_beside_their_row() -> None:
    plain = sheet(phantom())
    flagged = sheet(phantom(flags={"liver": ["truncated"]}))
    other = sheet(phantom(flags={"liver": ["fragmented"]}))
    assert len({plain, flagged, other}) == 3
    assert of_colour(pixels(plain), FLAG_RED).sum() == 0
    red = of_colour(pixels(flagged), FLAG_RED)
    assert red[:, :PICTURES_FROM].sum() > 100
    assert red[:, PICTURES_FROM:].sum() == 0
    # A region that the label map cannot hold, a sum of others for instance, still shows its flag.
    assert of_colour(pixels(sheet(phantom(flags={"kidneys": ["part_missing"]}))), FLAG_RED).sum() > 100


def test_a_mark_stands_above_and_below() -> None:
    red = of_colour(pixels(sheet(phantom(), mark="DEMO WEIGHTS: virtual patients only")), FLAG_RED)
    assert red[:MARK_TO].sum() > 2000
    assert red[-50:].sum() > 300
    assert red[MARK_TO:-50].sum() == 0


@pytest.mark.parametrize(
    "panel",
    [
        phantom(hu=None, ct_grid=None),
        phantom(spect_bq_per_ml=None, spect_grid=None),
        phantom(hu=None, ct_grid=None, spect_bq_per_ml=None, spect_grid=None),
        phantom((3,)),
        phantom((4,), hu=None, ct_grid=None),
        phantom(()),
        phantom((), hu=None, ct_grid=None, spect_bq_per_ml=np.zeros(CT_GRID.shape, np.float32)),
    ],
    ids=["no CT", "no SPECT", "no image", "one region", "one lesion, no CT", "no region", "nothing at all"],
)
def test_what_is_missing_leaves_the_rest(panel: ScanPanel) -> None:
    image = pixels(sheet(panel))
    assert len(picture_columns(image)) >= 3
    present = [style for style in STYLES if (panel.labels == style.label).any()]
    for style in present:
        assert of_colour(image[:, PICTURES_FROM:], style.colour).sum() > 20


def test_a_ct_of_few_slices_shows_each_once_and_writes_nothing_outside_its_pictures() -> None:
    """Two slices of 1 mm: kidneys and liver have the same one, and coronal sections are lower than a letter."""
    grid = replace(CT_GRID, shape=(2, 50, 70), spacing_mm=(1.0, 5.0, 5.0))
    mask = np.zeros(grid.shape, np.uint8)
    for label in (1, 2, 3):
        mask[(slice(None), *BLOCKS[label][1:])] = label
    panel = ScanPanel("CT", mask, grid, np.zeros(grid.shape, np.int16), grid)
    captions = [picture.caption for picture in ScanView(panel, NAMES).pictures(1.0, 1.0) if picture]
    assert captions == ["Coronal, kidneys", "Axial, kidneys", "Sagittal, liver"]
    coronal = pixels(sheet(panel))[100:, PICTURES_FROM : PICTURES_FROM + 400]
    rows = np.flatnonzero(of_colour(coronal, STYLES[0].colour).any(axis=1))
    assert 0 < np.ptp(rows) < 6


def test_a_sheet_without_scans_or_regions_has_its_frame() -> None:
    assert contact_sheet([], STYLES, title="P01") != contact_sheet([], [], title="P01")


def test_labels_on_another_grid_than_the_ct_stand_at_the_same_place() -> None:
    fine = Grid((80, 100, 140), (2.5, 2.5, 2.5), (-176.25, -126.25, -1.25))
    labels = phantom().labels.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    same = ScanView(phantom(), NAMES)
    finer = ScanView(phantom(labels=labels, labels_grid=fine), NAMES)
    for region, found in same.found.items():
        assert finer.found[region].volume_ml == pytest.approx(found.volume_ml, rel=1e-12)
        assert finer.found[region].centroid_mm == pytest.approx(found.centroid_mm, abs=1e-9)
    for first, second in zip(drawn(same.panel), drawn(finer.panel), strict=True):
        # A voxel of the coarser map begins and ends half-way between those of the finer one.
        assert_same_outlines(second, first, tolerance_px=2.5)


def test_a_large_ct_is_not_copied() -> None:
    grid = Grid((200, 512, 512), (3.0, 0.9, 0.9), (-230.0, -230.0, -300.0))
    hu = np.full(grid.shape, -1000, np.int16)
    hu[:, 100:400, 60:450] = 40
    labels = np.zeros(grid.shape, np.uint8)
    labels[60:100, 250:320, 120:180] = 2
    labels[80:140, 120:320, 100:300] = 3
    tracemalloc.start()
    png = sheet(ScanPanel("24 h", labels, grid, hu, grid))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < hu.nbytes / 2
    assert len(png) < 300_000


def test_labels_without_a_region_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"24 h.*\[4\]"):
        contact_sheet([phantom()], STYLES[:3], title="P01")
    for twin in (replace(STYLES[0], region="spleen"), replace(STYLES[0], label=9)):
        with pytest.raises(UnknownNameError, match="same label or name"):
            contact_sheet([phantom()], [*STYLES, twin], title="P01")


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GeometryError, match="CT of scan 24 h"):
        phantom(ct_grid=replace(CT_GRID, shape=(40, 50, 71)))
    with pytest.raises(GeometryError, match="SPECT of scan 24 h"):
        phantom(spect_grid=None)
    with pytest.raises(GeometryError, match="int64"):
        phantom(labels=np.zeros(CT_GRID.shape, np.int64))


def test_values_that_are_no_numbers_are_refused() -> None:
    spect = np.full(CT_GRID.shape, 1.0, np.float32)
    spect[3, 3, 3] = np.nan
    with pytest.raises(QuantityError, match="not finite"):
        sheet(phantom(spect_bq_per_ml=spect))
