"""Memory of this process."""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_freed_memory(max_block_mib: int = 1024, max_free_mib: int = 2048) -> None:
    """Let the allocator of glibc reuse freed blocks, instead of returning each large one to the system.

    The activations of a network on a CPU are large blocks that are allocated and freed in every call. By default, each
    is mapped, zeroed page by page and unmapped: a tenth of the time of I3D on 250 frames. Up to ``max_free_mib`` of
    memory stays with the process instead. Changes the whole process, so only the command line calls it. No-op without
    glibc.

    Args:
        max_block_mib: Largest block that is reused.
        max_free_mib: Unused memory at the end of the heap that is not returned.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not Linux, or another C library
        return
    set_option(_M_MMAP_THRESHOLD, max_block_mib << 20)
    set_option(_M_ARENA_MAX, 1)  # the arenas of threads return their blocks
    set_option(_M_TRIM_THRESHOLD, max_free_mib << 20)
