"""Fixtures that several test files share: for `utils.fetch` a data root and where data comes from; scenes."""

import pytest
from fetch_helpers import empty_mirror, running_server, temporary_course, wheel_shop
from scene_helpers import sample_scenes, source


@pytest.fixture
def course(tmp_path, monkeypatch):
    with temporary_course(tmp_path, monkeypatch) as course:
        yield course


@pytest.fixture
def server():
    with running_server() as server:
        yield server


@pytest.fixture
def shop(tmp_path, monkeypatch):
    return wheel_shop(tmp_path, monkeypatch)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    return empty_mirror(tmp_path, monkeypatch)


@pytest.fixture
def standard():
    """Scenes of the standard difficulty: 130 for training, 66 for the test."""
    return sample_scenes()


@pytest.fixture
def rectangles(monkeypatch):
    """Squares for training, labels 0 to 4; halves of squares for the test, labels 5 to 9."""
    parts = source(50), source(20, width=14, first=5)
    monkeypatch.setattr("utils.scenes.fashion_mnist", lambda: parts)
    return parts
