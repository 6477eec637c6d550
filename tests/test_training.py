import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader
from torch.utils.data.distributed import DistributedSampler

from utils.loading import ImageSet, make_loader
from utils.metrics import accuracy
from utils.training import History, evaluate, fit, predict, train_one_epoch

CPU = torch.device("cpu")


def random_set(n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.randint(0, 3, (n,), generator=generator), ["a", "b", "c"])


def build(seed=0, lr=0.05):
    """A network in which everything that can break a resumed run is at work."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return model, optimizer


def run(epochs, *, checkpoint=None, schedule=True, val=True, **options):
    model, optimizer = build()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40) if schedule else None
    train, test = make_loader(random_set(), 8, shuffle=True, seed=1), make_loader(random_set(21, 1), 8)
    options = {"loss_fn": F.cross_entropy, "metrics": {"accuracy": accuracy}, "verbose": False} | options
    history = fit(
        model,
        train,
        test if val else None,
        epochs=epochs,
        optimizer=optimizer,
        scheduler=scheduler,
        device=CPU,
        checkpoint=checkpoint,
        **options,
    )
    return model, history


def numbers(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


def equal_weights(one, other):
    other = other.state_dict()
    return all(torch.equal(value, other[key]) for key, value in one.state_dict().items())


def test_evaluate_weights_the_short_batch_by_its_size():
    model, _ = build()
    dataset = random_set(21)
    measured = evaluate(
        model,
        make_loader(dataset, 8),
        loss_fn=F.cross_entropy,
        device=CPU,
        metrics={"accuracy": accuracy},
        amp=False,
    )
    with torch.inference_mode():
        logits = model.eval()(dataset.images / 255)
    assert measured["loss"] == pytest.approx(F.cross_entropy(logits, dataset.labels).item(), rel=1e-6)
    assert measured["accuracy"] == pytest.approx((logits.argmax(1) == dataset.labels).double().mean().item())


def test_modes_are_set_whatever_they_were():
    model, optimizer = build()
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    options = {"loss_fn": F.cross_entropy, "device": CPU}
    train_one_epoch(model.eval(), make_loader(random_set(8), 4), optimizer=optimizer, **options)
    evaluate(model.train(), make_loader(random_set(8), 4), **options)
    predict(model.train(), make_loader(random_set(8), 4), device=CPU)
    assert modes == [True] * 2 + [False] * 4


def test_fit_trains_in_training_mode_in_every_epoch():
    model, optimizer = build()
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    loaders = make_loader(random_set(8), 4, shuffle=True), make_loader(random_set(4), 4)
    fit(model, *loaders, epochs=3, loss_fn=F.cross_entropy, optimizer=optimizer, device=CPU, verbose=False)
    assert modes == [True, True, False] * 3
    assert not model.training


def test_evaluation_changes_nothing_and_keeps_no_graph():
    model, _ = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, make_loader(random_set(), 8), loss_fn=F.cross_entropy, device=CPU)
    outputs, labels = predict(model, make_loader(random_set(), 8), device=CPU)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not outputs.requires_grad
    assert (outputs.shape, outputs.dtype) == ((50, 3), torch.float32)
    assert torch.equal(labels, random_set().labels)


def test_a_step_is_torchs_own():
    model, optimizer = build()
    twin, twin_optimizer = build()
    loader = make_loader(random_set(20), 8)
    torch.manual_seed(5)
    means = train_one_epoch(
        model, loader, loss_fn=F.cross_entropy, optimizer=optimizer, device=CPU, amp=False
    )
    torch.manual_seed(5)
    total = 0.0
    twin.train()
    for images, labels in loader:
        twin_optimizer.zero_grad()
        loss = F.cross_entropy(twin(images), labels)
        loss.backward()
        twin_optimizer.step()
        total += loss.item() * len(labels)
    assert equal_weights(model, twin)
    assert means["loss"] == pytest.approx(total / 20, rel=1e-12)


def test_history_has_a_row_an_epoch(capsys):
    _, history = run(3, verbose=True)
    keys = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert [list(row) for row in history.rows] == [keys] * 3
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    assert history.last() is history.rows[-1]
    assert history.to_frame().shape == (3, 6)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 3 and re.match(r"epoch 1/3  train loss \d\.\d+ .* val accuracy \d\.\d+ ", lines[0])


def test_history_plots_itself():
    _, history = run(2)
    figure = history.plot(title="two epochs")
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy"]
    drawn = figure.axes[1].lines[1].get_ydata()
    assert list(drawn) == [row["val_accuracy"] for row in history.rows]


def test_without_validation_there_are_no_validation_numbers():
    _, history = run(1, val=False)
    assert not [key for key in history.last() if key.startswith("val")]


def test_scheduler_steps_with_the_optimiser_and_plateau_with_the_epoch():
    _, history = run(2)  # 7 steps an epoch of a cosine over 40
    assert history.last()["lr"] == pytest.approx(0.05 * (1 + math.cos(math.pi * 14 / 40)) / 2)
    model, optimizer = build()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1e9)
    loaders = make_loader(random_set(8), 4, shuffle=True), make_loader(random_set(4), 4)
    history = fit(
        model,
        *loaders,
        epochs=3,
        loss_fn=F.cross_entropy,
        optimizer=optimizer,
        scheduler=plateau,
        device=CPU,
        verbose=False,
    )
    assert [row["lr"] for row in history.rows] == pytest.approx(
        [0.005, 0.0005, 0.00005]
    )  # each epoch misses the threshold


def test_a_plateau_needs_validation():
    model, optimizer = build()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="ReduceLROnPlateau"):
        fit(
            model,
            make_loader(random_set(8), 4, shuffle=True),
            None,
            epochs=1,
            loss_fn=F.cross_entropy,
            optimizer=optimizer,
            scheduler=plateau,
            device=CPU,
        )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_step_and_spares_the_weights(bad):
    model, optimizer = build()
    calls, before = [], {}

    def loss_fn(outputs, labels):
        calls.append(len(labels))
        before.update({key: value.clone() for key, value in model.named_parameters()})
        return F.cross_entropy(outputs, labels) * (bad if len(calls) == 10 else 1)

    loader = make_loader(random_set(), 8, shuffle=True)
    with pytest.raises(FloatingPointError, match=r"epoch 2: the loss is (nan|inf) at step 3 of 7"):
        fit(model, loader, None, epochs=3, loss_fn=loss_fn, optimizer=optimizer, device=CPU, verbose=False)
    assert all(torch.equal(before[key], value) for key, value in model.named_parameters())


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole_model, whole = run(4)
    run(2, checkpoint=tmp_path / "run.pt")
    torch.rand(7)  # the world has moved on
    resumed_model, resumed = run(4, checkpoint=tmp_path / "run.pt")
    assert numbers(resumed) == numbers(whole)
    assert equal_weights(resumed_model, whole_model)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_finished_run_is_not_trained_again(tmp_path, capsys):
    first_model, first = run(2, checkpoint=tmp_path / "a" / "run.pt")
    again_model, again = run(2, checkpoint=tmp_path / "a" / "run.pt", verbose=True)
    assert again.rows == first.rows and equal_weights(first_model, again_model)
    assert "after epoch 2" in capsys.readouterr().out
    with pytest.raises(ValueError, match="has 2 epochs"):
        run(1, checkpoint=tmp_path / "a" / "run.pt")


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path):
    path = tmp_path / "run.pt"
    run(1, checkpoint=path)
    with pytest.raises(RuntimeError, match="with a scheduler"):
        run(2, checkpoint=path, schedule=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match="delete it"):
        run(2, checkpoint=path)
    torch.save({"evil": print}, path)
    with pytest.raises(RuntimeError, match="delete it"):
        run(2, checkpoint=path)


def test_an_interrupted_save_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    run(1, checkpoint=path)
    whole, save = path.read_bytes(), torch.save

    def die_half_way(content, file):
        save(content, file)
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", die_half_way)
    with pytest.raises(OSError, match="No space"):
        run(2, checkpoint=path)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        run(0)
    model, optimizer = build()
    short = make_loader(random_set(3), 8, drop_last=True)
    with pytest.raises(ValueError, match="no batch"):
        train_one_epoch(model, short, loss_fn=F.cross_entropy, optimizer=optimizer, device=CPU)
    with pytest.raises(ValueError, match="no batch"):
        evaluate(model, short, loss_fn=F.cross_entropy, device=CPU)


def test_outputs_are_float32_also_from_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    model, _ = build()
    seen = []

    def loss_fn(outputs, labels):
        seen.append(outputs.dtype)
        return F.cross_entropy(outputs, labels)

    layers = []
    model[1].register_forward_hook(lambda module, inputs, output: layers.append(output.dtype))
    for amp in (True, False):
        evaluate(model, make_loader(random_set(4), 4), loss_fn=loss_fn, device=CPU, amp=amp)
    assert seen == [torch.float32] * 2
    assert layers == [torch.bfloat16, torch.float32]


def test_progress_is_shown_unless_the_environment_or_the_caller_says_no(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    run(1, verbose=True)
    assert "7/7" in capsys.readouterr().err  # 7 steps an epoch
    run(1, verbose=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    run(1, verbose=True)
    assert capsys.readouterr().err == ""


def test_an_empty_history_says_so():
    with pytest.raises(ValueError, match="empty"):
        History().plot()


def test_a_sampler_that_is_shared_out_is_told_the_epoch():
    sampler = DistributedSampler(random_set(16), num_replicas=1, rank=0)
    loader = make_loader(random_set(16), 8)
    loader = DataLoader(
        loader.dataset, sampler=BatchSampler(sampler, 8, False), batch_size=None, collate_fn=loader.collate_fn
    )
    model, optimizer = build()
    fit(
        model, loader, None, epochs=3, loss_fn=F.cross_entropy, optimizer=optimizer, device=CPU, verbose=False
    )
    assert sampler.epoch == 3  # without which each epoch would repeat the first one's order
