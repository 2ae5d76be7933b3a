from .descriptions import Described as Described
from .entries import Entry as Entry
from .motion import motion_between as motion_between
from .session import Session as Session
