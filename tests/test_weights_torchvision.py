"""`utils.weights`: torchvision's own networks: the cache, bad files, and all that can go wrong on the way."""

import hashlib
import http.client
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torchvision import models
from weights_helpers import cut_off, lively

from utils import weights

NET = "squeezenet1_1"  # of torchvision's classifiers the smallest file
URL = models.get_model_weights(NET).DEFAULT.url


@pytest.fixture
def offline(tmp_path, monkeypatch):
    return cut_off(tmp_path, monkeypatch)


@pytest.fixture
def cached(offline):
    """Random weights under the name of torchvision's file, in a cache without a network: file and network."""
    offline.mkdir(parents=True)
    model, file = lively(models.get_model(NET)), offline / URL.rpartition("/")[2]
    torch.save(model.state_dict(), file)
    return file, model


def test_a_network_of_torchvision_in_the_cache(cached, capsys):
    found = weights.pretrained(NET)
    torch.testing.assert_close(found.model.state_dict(), cached[1].state_dict(), rtol=0, atol=0)
    assert not any(module.training for module in found.model.modules()) and capsys.readouterr().out == ""
    assert found.categories[285] == "Egyptian cat"
    images = torch.randint(256, (2, 3, 300, 400), dtype=torch.uint8)
    expected = models.SqueezeNet1_1_Weights.DEFAULT.transforms()(images)
    torch.testing.assert_close(found.transform(images), expected, rtol=0, atol=0)


class Trap:
    """A pickled object that says so when it is brought to life."""

    def __reduce__(self):
        return print, ("the pickle ran",)


def test_a_bad_file_in_the_cache_of_torchvision(cached, capsys):
    file, model = cached
    state = model.state_dict()
    state.pop("classifier.1.bias")
    for content in (state, models.get_model("shufflenet_v2_x0_5").state_dict(), state | {"trap": Trap()}):
        torch.save(content, file)
        with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*delete it"):
            weights.pretrained(NET)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="delete it"):
        weights.pretrained(NET)
    assert "ran" not in capsys.readouterr().out


def unavailable(folder, *words):
    """Ask for weights that cannot be had: all `words` are in the message, and nothing is in the cache."""
    with pytest.raises(weights.WeightsUnavailable) as error:
        weights.pretrained(NET)
    text = str(error.value)
    for word in (NET, str(folder), URL, "internet", "CV_MIRROR", URL.rpartition("/")[2], "5 MB", *words):
        assert word in text
    assert "mobilenet_v2" in text and "Traceback" not in text and "urlopen" not in text
    assert not folder.exists() or not list(folder.iterdir())
    assert socket.getdefaulttimeout() is None


class Answer:
    """An answer of the web, as `torch.hub` reads it: some bytes, then an end or an error."""

    def __init__(self, *parts):
        self.parts = list(parts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def info(self):
        return http.client.HTTPMessage()

    def read(self, _):
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, BaseException):
            raise part
        return part


def test_weights_that_do_not_come(offline, monkeypatch):
    unavailable(offline, "no network in this test")
    for answer, words in (
        (Answer(b"a part", ConnectionResetError("reset by peer")), "reset by peer"),
        (Answer(b"another content"), "invalid hash value"),
        (Answer(b"a part", http.client.IncompleteRead(b"", 100)), "IncompleteRead"),
    ):
        monkeypatch.setattr(torch.hub, "urlopen", lambda _, answer=answer: answer)
        unavailable(offline, words)
    monkeypatch.setattr(torch.hub, "urlopen", lambda _: Answer(b"a part", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        weights.pretrained(NET)
    assert not list(offline.iterdir()) and socket.getdefaulttimeout() is None


def test_a_server_that_says_no_or_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("CV_MIRROR", raising=False)
    monkeypatch.setattr(weights, "TIMEOUT", 0.3)
    folder = tmp_path / "hub" / "checkpoints"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/n-0a.pth"
        source = SimpleNamespace(url=url, meta={"_file_size": 1})
        start = time.monotonic()
        with pytest.raises(weights.WeightsUnavailable, match="timed out"):  # it accepts, and is silent
            weights._obtain("n", source)
        assert time.monotonic() - start < 5 and not list(folder.iterdir())
        server.accept()[0].close()

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")

        with ThreadPoolExecutor() as pool:
            pool.submit(answer)
            with pytest.raises(weights.WeightsUnavailable, match="HTTP Error 404: Not Found"):
                weights._obtain("n", source)
    assert not list(folder.iterdir())


def test_a_mirror(offline, tmp_path, monkeypatch):
    content = b"weights"
    source = SimpleNamespace(
        url=f"http://host/n-{hashlib.sha256(content).hexdigest()[:8]}.pth", meta={"_file_size": 1}
    )
    name = source.url.rpartition("/")[2]
    monkeypatch.setenv("CV_MIRROR", str(tmp_path))
    with pytest.raises(weights.WeightsUnavailable, match=f"{name}: .*No such file"):
        weights._obtain("n", source)
    (tmp_path / name).write_bytes(b"other")
    with pytest.raises(weights.WeightsUnavailable, match="invalid hash.*\n.*no network"):
        weights._obtain("n", source)
    assert not list(offline.iterdir())
    (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CV_MIRROR", ".")
    assert weights._obtain("n", source) == offline / name
    assert (offline / name).read_bytes() == content and len(list(offline.iterdir())) == 1
