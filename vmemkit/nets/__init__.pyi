from . import cut3r as cut3r
from . import unet as unet
from . import weights as weights
