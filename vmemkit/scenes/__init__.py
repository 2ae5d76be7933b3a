"""Scenes: worlds with a known truth, recordings of real ones, and ways through them.

In: seeds, photographs, folders. Out: scenes that render any camera (`rooms`, `panorama`, `capture`),
trajectories (`moves`, `orbit`, tours) and camera files (transforms.json, RealEstate10K).
Houses with walls between their rooms matter most: occlusion is what the memory has to get right.
"""

from vmemkit.scenes.camera_files import (
    read_realestate10k,
    read_transforms,
    write_realestate10k,
    write_transforms,
)
from vmemkit.scenes.examples import (
    ASPECT,
    EXAMPLES,
    FOV,
    HEIGHT,
    KINDS,
    PANORAMA,
    STEREO,
    Beginning,
    check_data,
    from_image,
    picture_size,
    stereo_view,
    turned,
)
from vmemkit.scenes.house.design import rooms
from vmemkit.scenes.house.ray_casting import EYE_HEIGHT, Rooms
from vmemkit.scenes.panoramas import Panorama, panorama
from vmemkit.scenes.recording import Capture, capture, load_capture, save_capture
from vmemkit.scenes.scene import Scene
from vmemkit.scenes.tours import Tour, capture_tour, single_tour, walk_through
from vmemkit.scenes.trajectory import (
    VERBS,
    keyframes,
    moves,
    navigate,
    orbit,
    preset_path,
    there_and_back,
)

__all__ = [
    "ASPECT",
    "Beginning",
    "Capture",
    "EXAMPLES",
    "EYE_HEIGHT",
    "FOV",
    "HEIGHT",
    "KINDS",
    "PANORAMA",
    "Panorama",
    "Rooms",
    "STEREO",
    "Scene",
    "Tour",
    "VERBS",
    "capture",
    "capture_tour",
    "check_data",
    "from_image",
    "keyframes",
    "load_capture",
    "moves",
    "navigate",
    "orbit",
    "panorama",
    "picture_size",
    "preset_path",
    "read_realestate10k",
    "read_transforms",
    "rooms",
    "save_capture",
    "single_tour",
    "stereo_view",
    "there_and_back",
    "turned",
    "walk_through",
    "write_realestate10k",
    "write_transforms",
]
