"""Geometry of point kernels: against a random walk through the same geometry, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from doseledger.dose.point_kernel import PointKernel, sphere, voxels

#: A thin shell of radius 1.
SHELL = PointKernel(np.array([0.0, 0.9995, 1.0005]), np.array([0.0, 1.0]), 0.0)
#: Smooth, most energy near the source, some far away, a part in the point.
_EDGES = np.linspace(0.0, 9.0, 91)
LONG = PointKernel(_EDGES, -0.9 * np.diff(np.exp(-_EDGES)) + 0.02 * np.diff(_EDGES) * (1.0 - _EDGES[1:] / 9.0), 0.1)


def by_chance(kernel: PointKernel, spacing: np.ndarray, half_widths: tuple[int, int, int], n: int) -> np.ndarray:
    """The same as `voxels`, by drawing source points, directions and radii."""
    rng = np.random.Generator(np.random.PCG64(5))
    start = rng.random((n, 3)) - 0.5
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    shares = np.append(kernel.share, kernel.local_share) / kernel.total_share
    shell = rng.choice(shares.size, size=n, p=shares)
    edges = np.append(kernel.edges, 0.0)
    inner, outer = (
        np.append(kernel.edges[:-1], 0.0)[shell],
        edges[np.append(np.arange(1, kernel.edges.size), -1)][shell],
    )
    radius = inner + (outer - inner) * rng.random(n)
    hit = np.rint(start + radius[:, None] * direction / spacing).astype(int) + half_widths
    shape = tuple(2 * w + 1 for w in half_widths)
    kept = hit[np.all((hit >= 0) & (hit < shape), axis=1)]
    counts = np.bincount(np.ravel_multi_index(tuple(kept.T), shape), minlength=int(np.prod(shape)))
    return kernel.total_share * counts.reshape(shape) / n


@pytest.mark.parametrize(
    ("kernel", "spacing", "half_widths"),
    [
        (SHELL, (1.0, 1.0, 1.0), (2, 2, 2)),
        (SHELL, (3.0, 0.7, 1.1), (1, 2, 1)),
        (LONG, (1.0, 1.0, 1.0), (9, 9, 9)),
        (LONG, (2.0, 1.0, 1.5), (5, 9, 6)),
        # The box ends within the kernel.
        (LONG, (1.0, 1.0, 1.0), (2, 3, 4)),
    ],
)
def test_voxels_against_chance(
    kernel: PointKernel, spacing: tuple[float, float, float], half_widths: tuple[int, int, int]
) -> None:
    n = 500_000
    found = voxels(kernel, np.array(spacing), half_widths)
    drawn = by_chance(kernel, np.array(spacing), half_widths, n)
    assert found.shape == drawn.shape
    # Binomial statistics, and 1 % for the quadrature.
    error = np.sqrt(found * (1.0 - found) / n)
    assert np.all(np.abs(found - drawn) < 5.0 * error + 0.01 * found + 3.0 / n)
    assert found.sum() == pytest.approx(drawn.sum(), abs=3.0 / np.sqrt(n))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 2.0), (0.3, 0.3, 0.3)])
def test_no_energy_is_lost(spacing: tuple[float, float, float]) -> None:
    half_widths = tuple(int(np.ceil(9.0 / edge)) for edge in spacing)
    kernel = voxels(LONG, np.array(spacing), (half_widths[0], half_widths[1], half_widths[2]))
    assert kernel.sum() == pytest.approx(LONG.total_share, rel=4e-3)
    for axis in range(3):
        assert np.array_equal(kernel, np.flip(kernel, axis))


def test_the_axes_are_those_of_the_spacing() -> None:
    kernel = voxels(LONG, np.array([2.0, 1.0, 1.5]), (3, 4, 5))
    turned = voxels(LONG, np.array([1.5, 2.0, 1.0]), (5, 3, 4))
    assert np.transpose(kernel, (2, 0, 1)) == pytest.approx(turned, rel=5e-3, abs=1e-5)


def test_a_short_kernel_in_closed_form() -> None:
    """Hat functions averaged over directions: <|x|> = r/2, <|x y|> = 2 r^2/(3 pi), <|x y z|> = r^3/(4 pi)."""
    kernel = voxels(SHELL, np.array([10.0, 10.0, 10.0]), (1, 1, 1))
    one, two, three = 0.5 / 10.0, 2.0 / (3.0 * np.pi) / 10.0**2, 1.0 / (4.0 * np.pi) / 10.0**3
    assert kernel[1, 1, 1] == pytest.approx(1.0 - 3.0 * one + 3.0 * two - three, rel=1e-5)
    assert kernel[1, 1, 0] == pytest.approx((one - 2.0 * two + three) / 2.0, rel=1e-3)
    assert kernel[0, 1, 2] == pytest.approx((two - three) / 4.0, rel=2e-3)
    assert kernel[2, 0, 0] == pytest.approx(three / 8.0, rel=5e-3)


@pytest.mark.parametrize("radius", [0.6, 1.0, 3.0, 20.0])
def test_spheres_against_chance(radius: float) -> None:
    rng = np.random.Generator(np.random.PCG64(6))
    n = 1_000_000
    start = rng.standard_normal((n, 3))
    start *= radius * rng.random((n, 1)) ** (1.0 / 3.0) / np.linalg.norm(start, axis=1, keepdims=True)
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inside = np.linalg.norm(start + direction, axis=1) < radius
    assert sphere(SHELL, radius) == pytest.approx(inside.mean(), abs=3e-3)


def test_within_a_radius_is_a_smaller_kernel() -> None:
    near = LONG.within(LONG.edges[20])
    assert near.edges[-1] == LONG.edges[20]
    assert near.total_share == pytest.approx(0.1 + LONG.share[:20].sum())
