"""Two processes under torchrun do what one process does with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from utils.data import ImageSet, make_loader
from utils.training import evaluate, fit

CPU = torch.device("cpu")


def dataset(n=24):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(n) % 3, ["a", "b", "c"])


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def train(batch_size, epochs, folder=None, **options):
    """One epoch is one step over the whole set: its order does not matter."""
    model, optimizer = network()
    history = fit(
        model,
        make_loader(dataset(), batch_size, shuffle=True),
        make_loader(dataset(7), 2),
        epochs=epochs,
        loss_fn=F.cross_entropy,
        optimizer=optimizer,
        device=CPU,
        amp=False,
        checkpoint=folder and folder / "run.pt",
        **options,
    )
    return model, optimizer, history


def random_states(folder, rank):
    """Draws after training with a seed of each process's own, and after resuming."""
    options = {"epochs": 1, "loss_fn": F.cross_entropy, "device": CPU, "verbose": False}
    draws = []
    for _ in range(2):
        model, optimizer = network()
        torch.manual_seed(100 + rank)
        path = folder / "random.pt"
        fit(
            nn.Sequential(model, nn.Dropout(0.5)),
            make_loader(dataset(), 12, shuffle=True),
            None,
            optimizer=optimizer,
            checkpoint=path,
            **options,
        )
        draws.append(torch.rand(3))
    return draws


def worker(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    model, optimizer, history = train(12, 2, folder)
    gradients = [parameter.grad for parameter in model.parameters()]
    model, optimizer, history = train(12, 3, folder)  # resumes
    torch.save(
        {"model": model.state_dict(), "rows": history.rows, "gradients": gradients},
        folder / f"{rank}.pt",
    )
    seen = [
        tuple(image.flatten().tolist())
        for images, _ in make_loader(dataset(7), 2)
        for image in images
    ]
    order = make_loader(dataset(), 12, shuffle=True).sampler
    orders = [list(order)]
    order.set_epoch(1)
    orders.append(list(order))
    orders.append(list(make_loader(dataset(), 12, shuffle=True, seed=9).sampler))
    torch.save({"seen": seen, "orders": orders}, folder / f"{rank}-order.pt")
    torch.save(random_states(folder, rank), folder / f"{rank}-random.pt")
    normalised = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    loaders = make_loader(dataset(), 12, shuffle=True), make_loader(dataset(7), 2)
    options = {"loss_fn": F.cross_entropy, "device": CPU, "verbose": False}
    fit(
        normalised,
        *loaders,
        epochs=1,
        optimizer=torch.optim.SGD(normalised.parameters(), lr=0.1),
        **options,
    )
    torch.save(dict(normalised.named_buffers()), folder / f"{rank}-buffers.pt")
    try:
        fit(
            model,
            make_loader(dataset(), 12),
            None,
            epochs=1,
            loss_fn=F.cross_entropy,
            optimizer=optimizer,
            device=CPU,
        )
    except ValueError as error:
        (folder / f"{rank}-error.txt").write_text(str(error))
    dist.barrier()  # neither leaves while the other still needs it
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        __file__,
        folder,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


def test_weights_and_gradients_are_those_of_one_process(two_processes):
    folder, _ = two_processes
    alone, _, history = train(24, 3, verbose=False)
    for rank in (0, 1):
        there = torch.load(folder / f"{rank}.pt")
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(there["model"][key], value, rtol=0, atol=1e-6)
        for row, expected in zip(there["rows"], history.rows, strict=True):
            assert row["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-6)
            assert row["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-6)
    alone, _, _ = train(24, 2, verbose=False)
    for gradient, parameter in zip(
        torch.load(folder / "0.pt")["gradients"], alone.parameters(), strict=True
    ):
        torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=1e-6)


def test_the_first_process_alone_prints_and_saves(two_processes):
    folder, printed = two_processes
    lines = [line for line in printed.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2", "3/3"]
    assert "going on after epoch 2" in printed
    assert len(torch.load(folder / "run.pt")["random"]) == 2


def test_every_test_example_is_measured_once(two_processes):
    folder, _ = two_processes
    seen = [torch.load(folder / f"{rank}-order.pt")["seen"] for rank in (0, 1)]
    assert [len(part) for part in seen] == [4, 3]  # 7 examples, none padded
    assert len(set(seen[0]) | set(seen[1])) == 7


def test_the_shares_are_disjoint_and_new_in_each_epoch(two_processes):
    folder, _ = two_processes
    mine, others = (
        torch.load(folder / f"{rank}-order.pt")["orders"] for rank in (0, 1)
    )
    for share, other in zip(mine, others, strict=True):
        assert sorted(share + other) == list(range(24))
    first, second, other_seed = mine
    assert first != second and first != other_seed and second != other_seed


def test_each_process_goes_on_from_its_own_random_state(two_processes):
    folder, _ = two_processes
    draws = [torch.load(folder / f"{rank}-random.pt") for rank in (0, 1)]
    for after_training, after_resumption in draws:
        assert torch.equal(after_training, after_resumption)
    assert not torch.equal(draws[0][0], draws[1][0])


def test_all_processes_measure_with_the_same_running_statistics(two_processes):
    folder, _ = two_processes
    here, there = (torch.load(folder / f"{rank}-buffers.pt") for rank in (0, 1))
    assert here["1.num_batches_tracked"] == 1
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_a_loader_that_is_not_shared_out_is_refused(two_processes):
    folder, _ = two_processes
    assert "must shuffle" in (folder / "0-error.txt").read_text()


def test_a_checkpoint_of_two_processes_is_not_resumed_by_one(two_processes):
    folder, _ = two_processes
    with pytest.raises(RuntimeError, match="written by 2 processes"):
        train(24, 4, folder)


def test_evaluate_counts_examples_of_all_processes(two_processes):
    folder, _ = two_processes
    model, _ = network()
    model.load_state_dict(torch.load(folder / "0.pt")["model"])
    alone = evaluate(
        model,
        make_loader(dataset(7), 7),
        loss_fn=F.cross_entropy,
        device=CPU,
        amp=False,
    )
    assert torch.load(folder / "1.pt")["rows"][-1]["val_loss"] == pytest.approx(
        alone["loss"], abs=1e-6
    )


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
