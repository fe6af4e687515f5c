"""The kernel's FUSE protocol, spoken directly on ``/dev/fuse``.

``abi`` is the protocol as data, ``mounting`` obtains a descriptor, ``session`` reads and answers
requests, ``notifications`` tells the kernel what to forget.
"""
