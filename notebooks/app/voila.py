"""Settings of `make app`: how much the visitors of the Explorer's page can ask of its server.

Every visitor has a kernel, a process of about 400 MB, and one websocket to it. Jupyter limits what
kernels say (`iopub_msg_rate_limit`), but not what visitors say: a busy kernel's messages wait in the
server, in any number. So the two classes below limit the visitors and their messages. Each trait can
be set on the command line, such as --VisitorKernels.most=20. What a visitor keeps on the disk lies in
a folder of the kernel's own, which goes with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.iostream import StreamBufferFullError
from tornado.web import HTTPError
from traitlets import Float, Integer

MB = 1_000_000  # bytes


class VisitorKernels(AsyncMappingKernelManager):
    """Kernels of at most so many visitors; the next one is told to come back later (503). Each has a
    folder for its temporary files, which is deleted when the kernel has ended or was culled."""

    most = Integer(8, config=True, help="Visitors at once.")
    _starting = 0

    def __init__(self, **options):
        super().__init__(**options)
        self._root = tempfile.TemporaryDirectory(prefix="vmemkit-visitors-")
        self._folders = {}  # by kernel

    async def start_kernel(self, **options):
        if len(self) + self._starting >= self.most:
            self.log.warning("refused a visitor: %d are here", self.most)
            raise HTTPError(503, reason="Too many visitors: please come back in a few minutes")
        self._starting += 1
        folder = tempfile.mkdtemp(dir=self._root.name)
        environment = {**os.environ, **(options.pop("env", None) or {}), "TMPDIR": folder}
        try:
            kernel = await super().start_kernel(env=environment, **options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._starting -= 1
        self._folders[kernel] = folder
        return kernel

    def remove_kernel(self, kernel_id):
        removed = super().remove_kernel(kernel_id)
        if kernel_id in self._folders:
            shutil.rmtree(self._folders.pop(kernel_id), ignore_errors=True)
        return removed


class VisitorConnection(ZMQChannelsWebsocketConnection):
    """A visitor's websocket. It is closed when more comes in than the limits allow, or when the
    visitor does not fetch what goes out. Limits hold for a kernel, so opening it again is no way out.
    """

    burst = Integer(2000, config=True, help="Messages that may come at once.")
    rate = Float(100, config=True, help="Messages a second that may come for long.")
    data_burst = Integer(120 * MB, config=True, help="Bytes that may come at once: two uploads.")
    data_rate = Float(1 * MB, config=True, help="Bytes a second that may come for long.")
    unfetched = Integer(100 * MB, config=True, help="Bytes that may wait for the visitor.")

    async def connect(self):
        self.websocket_handler.ws_connection.stream.max_write_buffer_size = self.unfetched
        await super().connect()

    def handle_incoming_message(self, incoming_msg):
        if self._spend(1, len(incoming_msg)):
            super().handle_incoming_message(incoming_msg)
        else:
            self._refuse("too many messages")

    def handle_outgoing_message(self, stream, outgoing_msg):
        try:
            super().handle_outgoing_message(stream, outgoing_msg)
        except StreamBufferFullError:
            self._refuse("messages are not fetched")

    def _spend(self, messages, size):
        """Whether so many messages and bytes are left to this kernel's visitor, who then has fewer."""
        kernel, now = self.parent, time.monotonic()
        before, left, data_left = getattr(kernel, "_left", (now, self.burst, self.data_burst))
        left = min(self.burst, left + self.rate * (now - before)) - messages
        data_left = min(self.data_burst, data_left + self.data_rate * (now - before)) - size
        allowed = left >= 0 and data_left >= 0
        kernel._left = (now, max(left, 0), max(data_left, 0))
        return allowed

    def _refuse(self, reason):
        self.log.warning("closed the websocket of kernel %s: %s", self.kernel_id, reason)
        self.websocket_handler.ws_connection.stream.close()


c = get_config()  # noqa: F821 - Voila brings it
c.Voila.ip = "127.0.0.1"  # a reverse proxy with a login stands before it (README)
c.Voila.tornado_settings = {"websocket_max_message_size": 51 * MB}  # an upload is 50 MB at most
c.Voila.kernel_websocket_connection_class = VisitorConnection
c.VoilaConfiguration.multi_kernel_manager_class = VisitorKernels
c.VoilaConfiguration.show_tracebacks = False
c.VisitorKernels.cull_idle_timeout = 1200  # seconds without a message, with the page open or not
c.VisitorKernels.cull_interval = 60
c.VisitorKernels.cull_connected = True
c.VisitorKernels.buffer_offline_messages = False  # nothing waits for a page that is gone
c.VisitorConnection.iopub_msg_rate_limit = 1000  # messages a second that a kernel may send
c.VisitorConnection.iopub_data_rate_limit = 1 * MB  # bytes a second that a kernel may print
