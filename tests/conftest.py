"""Fixtures that several test files share: data roots, and where data comes from."""

from pathlib import Path

import pytest
from fetch_helpers import (
    empty_mirror,
    forget_proxies,
    running_server,
    temporary_course,
    wheel_shop,
)


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
def data_folder(tmp_path, monkeypatch):
    """An empty data root, for which nothing can be fetched from anywhere."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("CV_DATA", str(folder))
    monkeypatch.delenv("CV_MIRROR", raising=False)
    nothing = tmp_path / "apt.conf"
    nothing.write_text(
        'Dir::Etc::SourceList "/dev/null";Dir::Etc::SourceParts "/dev/null";'
    )
    monkeypatch.setenv("APT_CONFIG", str(nothing))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    forget_proxies(monkeypatch)
    return folder


@pytest.fixture
def sample_data(monkeypatch):
    """The data root of the tiny run: the samples in tests/data."""
    monkeypatch.setenv("CV_DATA", str(Path(__file__).parent / "data"))
    monkeypatch.delenv("CV_MIRROR", raising=False)
