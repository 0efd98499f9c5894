"""Helper processes that end with the process that started them."""

import multiprocessing
import os
import threading
import time


def end_with_parent(*_: object) -> None:
    """Ends this process soon after its parent, however that came to die.

    Reader processes would otherwise live for ever after a `kill -9`, and hold shared
    memory. A thread looks, since the kernel's own signal at a parent's death
    (`PR_SET_PDEATHSIG`) comes with the end of the thread that started the process,
    and grain starts them from threads of a pool.

    Args:
        _: what grain tells of the process; not needed.
    """
    # Not os.getppid(): the parent may be dead already.
    parent = multiprocessing.parent_process().pid

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
