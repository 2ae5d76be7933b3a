"""Depth of the stereo pairs: from data/*_left.png and *_right.png to data/*_depth.png.

Run it after a change: `python data/make_stereo_depth.py`. The results are in the repository.
It needs OpenCV's contrib modules: `pip install opencv-contrib-python-headless`.

1. Semi-global matching of images at twice their size, within the camera's depth range.
2. A weighted least squares filter keeps disparities on which both directions agree, and extends them
   to the edges of the image. Pixels far from any match are unknown.
3. Unknown areas of one grey tone are taken as plain walls. Each gets the plane on which most matched
   pixels of that tone around it agree, if they do. Otherwise it stays unknown (0), as do pixels beyond
   the depth range and outside the rectified image.
4. A median smooths outlines, so that they are not ragged when the camera moves.

Sources: Hirschmueller 2008 (matching), Min et al. 2014 (filter), OpenCV's ximgproc for both.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage

DATA = Path(__file__).parent
PAIRS = ("bedroom_chair", "cycles")
ZOOM = 2  # scale of the images before matching, for disparity steps of 1/32 pixel
BLOCK = 5  # pixels matched at once: small, because bicycle frames are thin
STEP, JUMP = (
    8 * BLOCK**2,
    48 * BLOCK**2,
)  # smoothness penalties: OpenCV's advice, with a higher one for jumps
SMOOTHING, COLOR_SIGMA = 8000.0, 1.0  # filter: OpenCV's values for full-size disparity
NEIGHBOURHOOD, MATCHED = 41, 0.25  # pixels, and the share of them that must be matched
TONE, RIM, LEAST_AREA = 25, 40, 400  # plain areas: grey levels, pixels around, pixels
TRIES, FIT, AGREED = 300, 0.4, 0.45  # planes tried, pixels of disparity, share of matched pixels
OUTLINE = 25  # pixels: size of the median
FIXED_POINT = 16  # OpenCV gives disparities in sixteenths of a pixel
UNIT = 0.001  # metres per step of the depth PNG


def main() -> None:
    calibration = json.loads((DATA / "oakd_calibration.json").read_text())
    for name in PAIRS:
        left, right = (
            cv2.imread(str(DATA / f"{name}_{side}.png"), 0) for side in ("left", "right")
        )
        depth = stereo_depth(left, right, calibration)
        cv2.imwrite(str(DATA / f"{name}_depth.png"), np.round(depth / UNIT).astype(np.uint16))
        known = depth > 0
        print(f"{name}: {known.mean():.0%} known, {depth[known].min():.2f}-{depth.max():.2f} m")


def stereo_depth(left: np.ndarray, right: np.ndarray, calibration: dict) -> np.ndarray:
    """z-depth [h w] of the left image, metres, 0 = unknown."""
    nearest, farthest = calibration["depth_range"]
    focal_times_baseline = calibration["fx"] * calibration["baseline_meters"]
    least, most = focal_times_baseline / farthest, focal_times_baseline / nearest
    disparity, confidence = matched(left, right, least, most)
    inside = _rectified(left.shape, calibration["left_image_rect_normalized"])
    sure = inside & (confidence > 0) & (disparity >= least) & (disparity <= most)
    support = cv2.blur(sure.astype(np.float32), (NEIGHBOURHOOD, NEIGHBOURHOOD))
    known = inside & ndimage.binary_fill_holes(support >= MATCHED)
    disparity, known = with_plain_areas(left, disparity, known, sure, inside)
    known &= (disparity >= least) & (disparity <= most)
    depth = focal_times_baseline / np.maximum(disparity, least)
    nearest_known = ndimage.distance_transform_edt(
        ~known, return_distances=False, return_indices=True
    )
    smooth = ndimage.median_filter(depth[tuple(nearest_known)], OUTLINE)
    return np.where(known, smooth, 0)


def matched(
    left: np.ndarray, right: np.ndarray, least: float, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """Disparity of every left pixel and its confidence [h w]; `least` and `most` are in pixels."""
    low = int(ZOOM * least)
    count = 16 * int(np.ceil((ZOOM * most - low) / 16))  # OpenCV wants multiples of 16
    margin = low + count  # so that pixels at the left border can be matched
    a, b = (_widened(image, margin) for image in (left, right))
    matcher = cv2.StereoSGBM_create(
        minDisparity=low,
        numDisparities=count,
        blockSize=BLOCK,
        P1=STEP,
        P2=JUMP,
        disp12MaxDiff=ZOOM,
        preFilterCap=15,
        uniquenessRatio=5,
        speckleWindowSize=100 * ZOOM**2,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    smoother = cv2.ximgproc.createDisparityWLSFilter(matcher)
    smoother.setLambda(SMOOTHING)
    smoother.setSigmaColor(COLOR_SIGMA)
    there = matcher.compute(a, b)
    back = cv2.ximgproc.createRightMatcher(matcher).compute(b, a)
    smooth = smoother.filter(there, a, disparity_map_right=back)[::ZOOM, margin::ZOOM]
    confidence = smoother.getConfidenceMap()[::ZOOM, margin::ZOOM]
    return smooth.astype(np.float32) / (FIXED_POINT * ZOOM), confidence


def with_plain_areas(
    image: np.ndarray,
    disparity: np.ndarray,
    known: np.ndarray,
    sure: np.ndarray,
    inside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Disparity and the mask of known pixels, with planes through unknown areas of one tone."""
    tone = cv2.medianBlur(image, 9).astype(np.float32)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float64)
    disparity, known = disparity.copy(), known.copy()
    areas, count = ndimage.label(inside & ~known)
    for area in (areas == i for i in range(1, count + 1)):
        if area.sum() < LEAST_AREA:
            continue
        alike = np.abs(tone - np.median(tone[area])) < TONE
        around = ndimage.binary_dilation(area, iterations=RIM) & alike & sure
        plane, agreed = _plane(pixels[around], disparity[around])
        if agreed >= AGREED:
            plain = area & alike
            disparity[plain] = pixels[plain] @ plane
            known |= plain
    return disparity, known


def _plane(pixels: np.ndarray, disparity: np.ndarray) -> tuple[np.ndarray, float]:
    """The plane on which most pixels [n 3] agree, and how many do (a plane is affine in disparity)."""
    rng = np.random.default_rng(0)
    best = np.zeros(len(pixels), dtype=bool)
    for _ in range(TRIES):
        chosen = rng.choice(len(pixels), 3, replace=False)
        if abs(np.linalg.det(pixels[chosen])) < 1:  # the pixels lie on one line
            continue
        plane = np.linalg.solve(pixels[chosen], disparity[chosen])
        fits = np.abs(pixels @ plane - disparity) < FIT
        best = fits if fits.sum() > best.sum() else best
    return np.linalg.lstsq(pixels[best], disparity[best], rcond=None)[0], float(best.mean())


def _rectified(shape: tuple[int, int], rectangle: list[float]) -> np.ndarray:
    """Mask of pixels that are not a replicated border. The rectangle is x0 y0 x1 y1, shares of the size."""
    (height, width), (x0, y0, x1, y1) = shape, rectangle
    inside = np.zeros(shape, dtype=bool)
    inside[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
    return inside


def _widened(image: np.ndarray, margin: int) -> np.ndarray:
    large = cv2.resize(image, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(large, 0, 0, margin, 0, cv2.BORDER_REPLICATE)


if __name__ == "__main__":
    main()
