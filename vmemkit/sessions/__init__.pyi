from .descriptions import Described as Described
from .entries import Entry as Entry
from .motion import motion_between as motion_between
from .removal import delete_session as delete_session
from .session import Session as Session
from .session import is_session as is_session
