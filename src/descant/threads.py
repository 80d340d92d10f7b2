"""How many cores a command line program uses."""

import os


def use_all_cores() -> None:
    """Gives torch this process's share of the machine's cores, unless the user set OMP_NUM_THREADS."""
    import torch

    # The launcher writes OMP_NUM_THREADS=1 where nobody has set it; a user's own 1 cannot be told from that.
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if os.environ.get("OMP_NUM_THREADS", "") in (["", "1"] if launched else [""]):
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
