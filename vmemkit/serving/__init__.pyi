from .batches import Job as Job
from .batches import run_jobs as run_jobs
from .door import Door as Door
from .server import LOOPBACK as LOOPBACK
from .server import Service as Service
from .server import serving as serving
