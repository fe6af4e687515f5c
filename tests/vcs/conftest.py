from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mesafs.base.files import Files
from mesafs.git.repository import ObjectStore
from mesafs.store.objects import Draft
from mesafs.testing.trees import TreeOf, make_tree


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.create(tmp_path / "r.git", Files())


@pytest.fixture
def draft(store: ObjectStore) -> Draft:
    return Draft(store)


@pytest.fixture
def tree_of(draft: Draft) -> TreeOf:
    return partial(make_tree, draft)
