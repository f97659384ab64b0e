"""The same examples each time, so that a change is judged by what it changed; `DOLIUM_RANDOM=1` looks for new ones."""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
if not os.environ.get("DOLIUM_RANDOM"):
    settings.load_profile("repeatable")
