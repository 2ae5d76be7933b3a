"""Depth of the stereo pairs: from data/*_left.png, *_right.png to data/*_depth.png.

Run it once, after changing it: `python data/make_stereo_depth.py`. The results are in the repository.
Semi-global matching on doubled images (twice as fine in depth), within the disparities of the
camera's depth range; then a weighted least squares filter that keeps what both directions agree on
and continues it over plain surfaces up to the picture's edges. What lies outside the rectified
image, beyond the range, or too far from anything matched, is unknown (0).
Sources: Hirschmueller 2008 (SGM); Min et al. 2014 (the filter); OpenCV's ximgproc for both.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import binary_fill_holes

DATA = Path(__file__).parent
PAIRS = ("bedroom_chair", "cycles")
ZOOM = 2  # of the images before matching: disparity steps of 1/32 pixel
BLOCK = 5  # pixels matched at once: small, because bicycle frames are thin
STEP, JUMP = 8 * BLOCK**2, 48 * BLOCK**2  # smoothness penalties; OpenCV's advice, jumps dearer
SMOOTHING, COLOR_SIGMA = 8000.0, 1.0  # of the filter: OpenCV's values for full-size disparity
NEIGHBOURHOOD, MATCHED = 41, 0.25  # pixels, and the share of them that must have been matched
FIXED_POINT = 16  # OpenCV's disparities are in sixteenths of a pixel
UNIT = 0.001  # metres per step of the depth PNG


def main() -> None:
    calibration = json.loads((DATA / "oakd_calibration.json").read_text())
    for name in PAIRS:
        left, right = (cv2.imread(str(DATA / f"{name}_{side}.png"), 0) for side in ("left", "right"))
        depth = stereo_depth(left, right, calibration)
        steps = np.round(depth / UNIT).astype(np.uint16)
        cv2.imwrite(str(DATA / f"{name}_depth.png"), steps)
        known = depth > 0
        print(f"{name}: {known.mean():.0%} known, {depth[known].min():.2f}-{depth.max():.2f} m")


def stereo_depth(left: np.ndarray, right: np.ndarray, calibration: dict) -> np.ndarray:
    """Planar depth [h w] of the left image, metres, 0 = unknown."""
    nearest, farthest = calibration["depth_range"]
    focal_times_baseline = calibration["fx"] * calibration["baseline_meters"]
    disparity, confidence = matched(
        left, right, focal_times_baseline / farthest, focal_times_baseline / nearest
    )
    depth = focal_times_baseline / np.maximum(disparity, 1e-6)
    support = cv2.blur((confidence > 0).astype(np.float32), (NEIGHBOURHOOD, NEIGHBOURHOOD))
    supported = binary_fill_holes(support >= MATCHED)  # what is framed by surfaces continues them
    known = supported & (depth >= nearest) & (depth <= farthest)
    x0, y0, x1, y1 = calibration["left_image_rect_normalized"]
    h, w = left.shape
    inside = np.zeros_like(known)
    inside[round(y0 * h) : round(y1 * h), round(x0 * w) : round(x1 * w)] = True
    return np.where(known & inside, depth, 0)


def matched(
    left: np.ndarray, right: np.ndarray, least: float, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """Disparity of every left pixel and its confidence [h w], least and most in pixels."""
    low = int(ZOOM * least)
    count = 16 * int(np.ceil((ZOOM * most - low) / 16))  # OpenCV wants multiples of 16
    margin = low + count  # so that pixels at the left border have room to be matched
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
    flow = cv2.ximgproc.createDisparityWLSFilter(matcher)
    flow.setLambda(SMOOTHING)
    flow.setSigmaColor(COLOR_SIGMA)
    there = matcher.compute(a, b)
    back = cv2.ximgproc.createRightMatcher(matcher).compute(b, a)
    smooth = flow.filter(there, a, disparity_map_right=back)[::ZOOM, margin::ZOOM]
    confidence = flow.getConfidenceMap()[::ZOOM, margin::ZOOM]
    return smooth.astype(np.float32) / (FIXED_POINT * ZOOM), confidence


def _widened(image: np.ndarray, margin: int) -> np.ndarray:
    large = cv2.resize(image, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(large, 0, 0, margin, 0, cv2.BORDER_REPLICATE)


if __name__ == "__main__":
    main()
