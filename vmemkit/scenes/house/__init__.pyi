from .design import rooms as rooms
from .finishes import Finish as Finish
from .ray_casting import Rooms as Rooms
