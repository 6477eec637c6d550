"""Fixtures of the tests of `utils.fetch`: a data root with its catalog, and where data comes from."""

import pytest
from fetch_helpers import empty_mirror, running_server, temporary_course, wheel_shop


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
