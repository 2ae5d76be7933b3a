from .descriptions import Described as Described
from .entries import Entry as Entry
from .session import Session as Session
