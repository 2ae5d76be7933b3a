from .explorer import Explorer as Explorer
from .inspector import RetrievalInspector as RetrievalInspector
from .policy_race import PolicyRace as PolicyRace
from .scrubber import SamplingScrubber as SamplingScrubber
from .stepper import StepThrough as StepThrough
from .viewer import MemoryViewer as MemoryViewer
