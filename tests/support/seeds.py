"""The seed of a run: ``MESA_SEED`` repeats one, otherwise it is fresh, and always told."""

from __future__ import annotations

import os
import secrets

#: Read when a test module is collected; no test sees MESA_* in its environment.
SEED = int(os.environ.get("MESA_SEED") or secrets.randbelow(1 << 32))
