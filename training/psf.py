"""Point spread functions of lines, apertures, Gaussians and random camera shake.

Everything is batched and runs on NumPy or torch (`Arrays`), in float64. Offsets are in working
pixels from the centre of a kernel of 2 * radius + 1 pixels a side, x to the right and y down.
Kernels are not normalised here: an image's values must not depend on how far the batch makes its
kernel reach, and a sum over padding would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.training.arrays import normal_pairs, on_numpy
from blurgate.training.streams import keys_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.training.arrays import Array, Arrays
    from blurgate.training.interfaces import Params

STEPS: Final = 1999
"""Steps of a random trajectory: 2000 positions, the first at the origin."""
PATH_PX: Final = 60.0
"""Length of a whole random trajectory, as published."""

_TINY: Final = 1e-9  # what stands for 0 where 0 would divide
_STRETCH: Final = 64  # steps whose random numbers are drawn at once
_FEW: Final = 8  # paths that plain numbers walk faster than arrays, one after the other
_TURNS: Final = 24  # a path makes 0.2 of them on average, at most 1.2


def splat(arrays: Arrays, x: Array, y: Array, weights: Array, radius: int) -> Array:
    """Spread weighted points bilinearly over the four pixels around each.

    A kernel made of such points moves a picture exactly as bilinear interpolation would.

    Args:
        arrays: The library of the other arguments.
        x: (n, p) float64 offsets.
        y: (n, p) float64 offsets.
        weights: (n, p) float64, or (n, 1) where all points of a row weigh the same.
        radius: At least the largest offset, rounded up.

    Returns:
        (n, k, k) float64 with k = 2 * radius + 1; sums to the sum of the weights.
    """
    xp, n, k = arrays.xp, len(x), 2 * radius + 1
    if n > arrays.block:
        parts = [slice(at, at + arrays.block) for at in range(0, n, arrays.block)]
        return xp.concatenate([splat(arrays, x[p], y[p], weights[p], radius) for p in parts])
    left, top = xp.floor(x), xp.floor(y)
    right_share, low_share = x - left, y - top
    row = arrays.whole(arrays.floats(np.arange(n)))[:, None] * (k * k)
    at = row + (arrays.whole(top) + radius) * k + arrays.whole(left) + radius
    low, high = weights * low_share, weights * (1 - low_share)
    # The neighbour of a point that lies on the rim has share 0; keep its index inside the kernel.
    step_x = arrays.whole(right_share > 0)
    step_y = arrays.whole(low_share > 0) * k
    size = n * k * k
    kernel = arrays.total(size, at, high * (1 - right_share))
    kernel += arrays.total(size, at + step_x, high * right_share)
    kernel += arrays.total(size, at + step_y, low * (1 - right_share))
    kernel += arrays.total(size, at + step_x + step_y, low * right_share)
    return kernel.reshape(n, k, k)


def lines(arrays: Arrays, length: Array, angle: Array) -> Array:
    """Make the kernels of uniform straight motion, exact for a bilinearly interpolated picture.

    A bilinear weight is a quadratic polynomial along the line between two crossings of the pixel
    grid, where two-point Gauss quadrature has no error.

    Args:
        arrays: The library of the other arguments.
        length: (n,) float64 working pixels, from 0.
        angle: (n,) float64 radians, counter-clockwise from the x axis as seen.

    Returns:
        (n, k, k) float64, each centred and symmetric about its centre.
    """
    xp = arrays.xp
    half = xp.clip(length, _TINY, None)[:, None] / 2
    radius = math.floor(float(half.max())) + 1
    grid = arrays.floats(np.arange(-radius, radius + 1))[None, :]
    cos, sin = xp.cos(angle)[:, None], xp.sin(angle)[:, None]
    ends = [-half, half]
    for slope in (cos, sin):
        safe = xp.where(xp.abs(slope) < 1e-12, 1e-12 + 0 * slope, slope)
        ends.append(xp.minimum(xp.maximum(grid / safe, -half), half))
    cuts = arrays.sort(xp.concatenate(ends, 1))
    middle, reach = (cuts[:, 1:] + cuts[:, :-1]) / 2, (cuts[:, 1:] - cuts[:, :-1]) / 2
    offset = reach / math.sqrt(3)
    along = xp.concatenate([middle - offset, middle + offset], 1)
    weight = xp.concatenate([reach, reach], 1) / (2 * half)
    return splat(arrays, along * cos, -along * sin, weight, radius)


def apertures(arrays: Arrays, area_radius: Array, blades: Sequence[int], rotation: Array) -> Array:
    """Make the kernels of a lens out of focus: the aperture's image, anti-aliased by exact area.

    Args:
        arrays: The library of the other arrays.
        area_radius: (n,) float64 working pixels: radius of the disc of the same area.
        blades: n numbers of blades of a regular polygon, from 3; 0 is a round disc.
        rotation: (n,) float64 radians.

    Returns:
        (n, k, k) float64: the share of each pixel that is covered.
    """
    # Whatever lies inside one pixel is the same kernel, and divisions stay away from 0.
    r = arrays.xp.clip(area_radius, 0.25, None)
    # The corners of a triangle are the furthest out: 1.555 radii of the disc of its area.
    radius = math.ceil(float(r.max()) * 1.56 + 0.5)
    kernels = arrays.floats(np.zeros((len(blades), 2 * radius + 1, 2 * radius + 1)))
    for polygon in (False, True):
        rows = [i for i, sides in enumerate(blades) if bool(sides) is polygon]
        if rows and polygon:
            sides = arrays.floats([blades[i] for i in rows])
            kernels[rows] = _polygons(arrays, r[rows], sides, rotation[rows], radius)
        elif rows:
            kernels[rows] = _discs(arrays, r[rows], radius)
    # What rounding leaves outside the shape is not part of it.
    return arrays.xp.where(kernels < 1e-9, 0 * kernels, kernels)


def _discs(arrays: Arrays, r: Array, radius: int) -> Array:
    """Give the shares covered by discs: areas of the disc left of and above each pixel corner."""
    xp = arrays.xp

    def under(x: Array) -> Array:  # integral of sqrt(1 - x * x) from 0
        return (x * xp.sqrt(xp.clip(1 - x * x, 0, None)) + xp.arcsin(x)) / 2

    corner = arrays.floats(np.arange(-radius, radius + 2) - 0.5)[None, :] / r[:, None]
    corner = xp.clip(corner, -1, 1)
    x, y = corner[:, None, :], corner[:, :, None]
    reach = xp.sqrt(1 - y * y)  # the chord at height y goes from -reach to reach
    across = xp.minimum(xp.maximum(x, -reach), reach)
    strip = y * (across + reach)
    upper_half = under(x) + math.pi / 4
    ends = under(xp.minimum(x, -reach)) + math.pi / 4 + under(xp.maximum(x, reach)) - under(reach)
    area = xp.where(y >= 0, upper_half + ends + strip, under(across) + under(reach) + strip)
    area = area * (r * r)[:, None, None]
    return area[:, 1:, 1:] - area[:, 1:, :-1] - area[:, :-1, 1:] + area[:, :-1, :-1]


def _polygons(arrays: Arrays, r: Array, sides: Array, rotation: Array, radius: int) -> Array:
    """Give the shares covered by polygons: signed areas to the right of their edges' pieces."""
    xp, n, k = arrays.xp, len(r), 2 * radius + 1
    inner = r * xp.sqrt(math.pi / (sides * xp.tan(math.pi / sides)))
    outer = (inner / xp.cos(math.pi / sides))[:, None]
    number = arrays.floats(np.arange(int(sides.max()) + 1))[None, :]
    number = xp.minimum(number, sides[:, None])  # edges too many are points
    turn = rotation[:, None] + 2 * math.pi * (number + 0.5) / sides[:, None]
    corners = (outer * xp.cos(turn), outer * xp.sin(turn))
    grid = arrays.floats(np.arange(-radius, radius + 2) - 0.5)[None, None, :]
    cuts = [0 * turn[:, 1:, None], 0 * turn[:, 1:, None] + 1]
    for place in corners:
        start, way = place[:, :-1, None], (place[:, 1:] - place[:, :-1])[:, :, None]
        safe = xp.where(xp.abs(way) < 1e-12, 1e-12 + 0 * way, way)
        cuts.append(xp.clip((grid - start) / safe, 0, 1))
    share = arrays.sort(xp.concatenate(cuts, 2))
    (x0, x1), (y0, y1) = (
        ((start + way * share[..., :-1]), (start + way * share[..., 1:]))
        for start, way in ((p[:, :-1, None], (p[:, 1:] - p[:, :-1])[:, :, None]) for p in corners)
    )
    column, row = xp.floor((x0 + x1) / 2 + 0.5), xp.floor((y0 + y1) / 2 + 0.5)
    inside = (x0 + x1) / 2 + 0.5 - column
    first = arrays.whole(arrays.floats(np.arange(n)))[:, None, None] * (k * k)
    at = first + (arrays.whole(row) + radius) * k + arrays.whole(column) + radius
    fall = y1 - y0
    edges = arrays.total(n * k * k, at, fall * (1 - inside))
    edges += arrays.total(n * k * k, at + 1, fall * inside)
    return xp.abs(xp.cumsum(edges.reshape(n, k, k), 2))


def gaussians(arrays: Arrays, sigma: Array) -> Array:
    """Make Gaussian kernels, integrated over each pixel and cut off beyond 4 sigma.

    Args:
        arrays: The library of `sigma`.
        sigma: (n,) float64 working pixels, from 0.

    Returns:
        (n, k, k) float64.
    """
    xp = arrays.xp
    s = xp.clip(sigma, _TINY, None)[:, None]
    own = xp.floor(4 * s + 0.5)  # pixels that reach inside 4 sigma
    radius = int(own.max())
    edges = arrays.floats(np.arange(-radius, radius + 2) - 0.5)[None, :]
    share = arrays.erf(edges / (s * math.sqrt(2)))
    profile = (share[:, 1:] - share[:, :-1]) / 2
    centre = arrays.floats(np.arange(-radius, radius + 1))[None, :]
    profile = xp.where(xp.abs(centre) <= own, profile, 0 * profile)
    return profile[:, :, None] * profile[:, None, :]


def trajectories(arrays: Arrays, params: Sequence[Params]) -> Array:
    """Walk the random camera-shake paths of Boracchi and Foi (2012), as DeblurGAN draws them.

    Many rows take a step at once, few go one after the other. In units of the step length, the
    velocity u and position x obey

        u <- u + [2 u exp(i turn)] + expl * (jitter * noise - centripetal * x * step),  u <- u / |u|
        x <- x + u

    where the bracket, a sudden turn back, strikes a step with probability shake * expl.

    Args:
        arrays: Where to walk.
        params: Rows with expl, centripetal, shake, jitter, angle_deg and seed.

    Returns:
        (1999, 2, n) float64 x and y after each step, in steps of PATH_PX / 1999.
    """
    xp = arrays.xp
    expl, centripetal, jitter, degrees = (
        arrays.floats([row[key] for row in params])
        for key in ("expl", "centripetal", "jitter", "angle_deg")
    )
    angle = degrees * (math.pi / 180)
    step = PATH_PX / STEPS
    u = xp.stack([xp.cos(angle), xp.sin(angle)]) * (expl / step)
    x = 0 * u
    pull, push = expl * centripetal * step, expl * jitter
    keys = keys_of([row["seed"] for row in params], "jitter")[None, :]
    turns = sudden_turns(params)
    path = arrays.floats(np.empty((STEPS, 2, len(params))))
    if not arrays.on_gpu and len(params) <= _FEW:
        numbers = np.arange(1, STEPS + 1, dtype=np.uint64)[:, None]
        kicks = [kick * push for kick in normal_pairs(arrays, keys, numbers)]
        for row in range(len(params)):
            own = {t: turn for t, turned in turns.items() for n, *turn in turned if n == row}
            walk = _walked(u[:, row].tolist(), float(pull[row]), own,
                           *(kick[:, row].tolist() for kick in kicks))  # fmt: skip
            path[:, 0, row], path[:, 1, row] = map(arrays.floats, walk)
        return path
    for start in range(0, STEPS, _STRETCH):
        numbers = np.arange(start + 1, min(start + _STRETCH, STEPS) + 1, dtype=np.uint64)[:, None]
        kicks = xp.stack([kick * push for kick in normal_pairs(arrays, keys, numbers)], 1)
        for t, kick in enumerate(kicks, start):
            for row, cos, sin in turns.get(t, ()):
                a, b = u[0, row] * 1.0, u[1, row] * 1.0
                u[0, row], u[1, row] = a + 2 * (a * cos - b * sin), b + 2 * (a * sin + b * cos)
            u += kick
            u -= pull * x
            u /= xp.sqrt(u[0] * u[0] + u[1] * u[1])
            xp.add(x, u, out=path[t])
            x = path[t]
    return path


def _walked(
    u: list[float],
    pull: float,
    turns: Mapping[int, Sequence[float]],
    kicks_x: list[float],
    kicks_y: list[float],
) -> tuple[list[float], list[float]]:
    """Walk one path of `trajectories`: the same operations on plain numbers, to the bit."""
    a, b = u
    x = y = 0.0
    xs, ys = [], []
    for t, (kick_x, kick_y) in enumerate(zip(kicks_x, kicks_y, strict=True)):
        if t in turns:
            cos, sin = turns[t]
            a, b = a + 2 * (a * cos - b * sin), b + 2 * (a * sin + b * cos)
        a, b = a + kick_x - pull * x, b + kick_y - pull * y
        length = math.sqrt(a * a + b * b)
        a, b = a / length, b / length
        x, y = x + a, y + b
        xs.append(x)
        ys.append(y)
    return xs, ys


def sudden_turns(params: Sequence[Params]) -> dict[int, list[tuple[int, float, float]]]:
    """Draw which steps of which rows turn back: step -> (row, cos, sin of the turn).

    Every step does so with the same chance; drawn are the gaps from one turn to the next.
    """
    keys = keys_of([row["seed"] for row in params], "shake")
    first, second = on_numpy().bits(keys[:, None], np.arange(1, _TURNS + 1, dtype=np.uint64))
    chance = np.array([[row["shake"] * row["expl"]] for row in params]).clip(1e-12)
    gap = np.floor(np.log((first + 0.5) * 2.0**-24) / np.log1p(-chance)) + 1
    at = np.cumsum(gap, 1) - 1
    turns: dict[int, list[tuple[int, float, float]]] = {}
    for row, number in np.argwhere(at < STEPS).tolist():
        turn = math.pi - 0.5 + float(second[row, number]) * 2.0**-24
        turns.setdefault(int(at[row, number]), []).append((row, math.cos(turn), math.sin(turn)))
    return turns


def shakes(arrays: Arrays, params: Sequence[Params], px: float) -> Array:
    """Make the kernels of random camera shake, centred on their centre of mass.

    Args:
        arrays: Where to make them.
        params: Rows as for `trajectories`, with exposure (share of the path that is seen) and
            path_px (length of that share in crop pixels).
        px: Working pixels per crop pixel.

    Returns:
        (n, k, k) float64.
    """
    path = trajectories(arrays, params)
    seen = np.array([min(round(row["exposure"] * (STEPS + 1)), STEPS) for row in params])
    size = [row["path_px"] / row["exposure"] * px / STEPS for row in params]
    # No point of a curve is further than half its length from its centre of mass.
    radius = math.ceil(max(row["path_px"] for row in params) * px / 2) + 1
    kernels = arrays.floats(np.zeros((len(params), 2 * radius + 1, 2 * radius + 1)))
    for count in np.unique(seen).tolist():
        same = np.flatnonzero(seen == count).tolist()
        for rows in (same[at : at + arrays.block] for at in range(0, len(same), arrays.block)):
            # Contiguous, because the order in which a sum adds up must not depend on the batch.
            part = arrays.contiguous(arrays.xp.swapaxes(path[:count, :, rows], 0, 2))
            part = part - part.mean(-1)[:, :, None]
            part = part * arrays.floats([size[row] for row in rows])[:, None, None]
            weight = arrays.floats(np.full((len(rows), 1), 1 / count))
            kernels[rows] = splat(arrays, part[:, 0], part[:, 1], weight, radius)
    return kernels


def normalised(kernel: NDArray[Any]) -> NDArray[np.float32]:
    """Cut a kernel to what is not zero around its centre, and make it sum to 1.

    Args:
        kernel: (k, k) float64, k odd.

    Returns:
        (m, m) float32, m odd and at most k.
    """
    centre = len(kernel) // 2
    used = np.flatnonzero(kernel.any(0) | kernel.any(1))
    reach = int(np.abs(used - centre).max()) if len(used) else 0
    cut = np.ascontiguousarray(
        kernel[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]
    )
    return np.asarray(cut / cut.sum(), np.float32)
