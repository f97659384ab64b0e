"""What more than one file of these tests starts with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bundles import Bundle
from checkpoints import Taken


@pytest.fixture
def one(bundle: Bundle) -> Iterator[Taken]:
    """A container that can be checkpointed."""
    found = Taken(bundle)
    yield found
    found.close()
