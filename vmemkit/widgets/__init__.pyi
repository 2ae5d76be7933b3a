from .explorer import Explorer as Explorer
from .inspector import RetrievalInspector as RetrievalInspector
from .policy_race import PolicyRace as PolicyRace
from .room_box import RoomBox as RoomBox
from .scrubber import SamplingScrubber as SamplingScrubber
from .session_steps import SessionSteps as SessionSteps
from .stepper import StepThrough as StepThrough
from .viewer import MemoryViewer as MemoryViewer
