"""Runs that several processes make and one repeats; as a script, what torchrun starts.

Usage: torchrun ... train_in_parallel.py JOB FOLDER, with a JOB of JOBS. Every process writes what it got to FOLDER.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_snnlearn import distributed
from lava_snnlearn.data import Dataset, Split, augmentation
from lava_snnlearn.methods import BPTT, DFA, DSR, FA, IDE, OPZO, OTTT, SLTT, SPIDE, RateBP, StepResult
from lava_snnlearn.networks import Network, conv_net, feedback_net, mlp, preact_resnet
from lava_snnlearn.training import Trainer, predictions

FEATURES, CLASSES, STEPS, SAMPLES, BATCH = 6, 3, 4, 50, 15


def noisy(x: Tensor) -> Tensor:
    """An augmentation that draws for the samples that it gets, one after the other."""
    return x + 0.1 * torch.randn(x.shape, dtype=x.dtype)


FEEDBACK = partial(feedback_net, FEATURES, (12, 10), CLASSES)

# Every batch of 15, and the last one of 5, is shared by two processes in unequal parts.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "bptt": (BPTT(), {"norm": "none", "optimiser": "adam", "weight_decay": 0.01}),
    "bptt bn_time": (BPTT(reduction="mean_logit"), {"norm": "bn_time"}),
    "bptt bn_step": (BPTT(), {"norm": "bn_step", "encoding": "rate"}),
    "sltt": (SLTT(), {"norm": "bn_step", "dropout": 0.0}),
    "sltt k": (SLTT(k=2), {"norm": "bn_step", "augment": noisy}),
    "ottt": (OTTT(), {"norm": "sws", "weight_decay": 0.01}),
    "ottt official": (OTTT.official(), {"norm": "sws", "augment": augmentation("crop_flip", (1, 2, 3), padding=1)}),
    "ottt online": (OTTT(update="online"), {"norm": "bn_step"}),
    "ottt online adam": (OTTT(update="online"), {"norm": "sws", "optimiser": "adam"}),
    "ottt sequences": (OTTT(), {"norm": "sws", "sequences": True, "augment": noisy}),
    "dfa": (DFA(), {"norm": "bn_step"}),
    "fa": (FA(), {"norm": "sws"}),
    "opzo": (OPZO(), {"norm": "sws"}),
    "opzo, local": (
        OPZO("online", antithetic=False, noise="gaussian", local_learning=True, intermediate=(1,)),
        {"norm": "bn_step"},
    ),
    "rate_bp": (RateBP(), {"norm": "bn_time"}),
    "dsr": (DSR(), {"norm": "bn_time", "neuron": DSR().preset.neuron}),
    "bptt slots": (BPTT(slots=2), {"norm": "bn_step"}),
    "ottt recurrent": (OTTT(), {"norm": "sws", "recurrent": True}),
    "convolutions": (OTTT(), {"network": partial(conv_net, (1, 4, 4), "4C3-P2-6C3", CLASSES)}),
    # Without feedback: the solver's report is about a process's own samples.
    "ide": (IDE(), {"norm": "bn_step", "neuron": IDE().preset.neuron}),
    "spide": (SPIDE(steps_backward=15), {"network": FEEDBACK, "norm": "bn_step", "neuron": SPIDE().preset.neuron}),
    "residual": (SLTT(), {"network": partial(preact_resnet, (1, 4, 4), CLASSES, blocks=(1, 1), width=4)}),
    "float32": (OTTT(), {"norm": "sws", "dtype": torch.float32}),
}


def make_data(shape: tuple[int, int, int] = (1, 2, 3), sequences: bool = False, unit: bool = False, seed: int = 5) -> Dataset:
    """Three clouds that overlap; 23 validation samples, which two processes share in unequal parts."""
    generator = np.random.default_rng(seed)
    features = math.prod(shape)
    centres = generator.standard_normal((CLASSES, features))

    def split(samples: int) -> Split:
        y = np.arange(samples) % CLASSES
        noise = generator.standard_normal((samples, STEPS, features) if sequences else (samples, features))
        x = (centres[y][:, None] if sequences else centres[y]) + noise
        return Split((1 / (1 + np.exp(-x)) if unit else x).astype(np.float32), y.astype(np.int64))

    return Dataset("clouds", split(SAMPLES), split(23), split(12), classes=CLASSES, shape=shape)


def make_trainer(case: str, folder: Path | None = None, **changes: Any) -> Trainer:
    """Four batches an epoch; a checkpoint after each."""
    method, options = CASES[case]
    settings = {"epochs": 2, "seed": 1, "batch_size": BATCH, "checkpoint_batches": 1, "learning_rate": 0.05, "progress": False}
    settings |= options | changes
    parts = {key: settings.pop(key) for key in ("norm", "neuron", "encoding", "dropout", "recurrent") if key in settings}
    build = settings.pop("network", partial(mlp, [FEATURES, 12, 10, CLASSES]))
    dtype, sequences = settings.pop("dtype", torch.float64), settings.pop("sequences", False)
    torch.manual_seed(settings.pop("weights", 0))
    network = build(steps=STEPS, **({"dropout": 0.3} | parts)).to(dtype)
    shape = (1, 2, 3) if network.inputs == FEATURES else network.input_shape
    data = settings.pop("data", None) or make_data(shape, sequences, parts.get("encoding") == "rate")
    return Trainer(network, method, data, run_dir=folder, **settings)


def result(trainer: Trainer, history: Any) -> dict[str, Any]:
    """What a run gave, without the seconds."""
    rows = [{key: value for key, value in row.columns().items() if key != "seconds"} for row in history.epochs]
    weights = {name: value.tolist() for name, value in trainer.network.state_dict().items()}
    test = predictions(trainer.network, trainer.data.test).tolist()
    return {"rows": rows, "best": history.best_epoch, "weights": weights, "test": test}


def threads() -> int:
    """Threads of this process, those of libraries included."""
    return len(os.listdir("/proc/self/task"))


class Acting:
    """BPTT, but ``act(number, x)`` is called before each batch."""

    name, optimiser_every, preset = "acting", "batch", BPTT().preset

    def __init__(self, act: Callable[[int, Tensor], None]) -> None:
        self.act, self.calls = act, 0

    def __repr__(self) -> str:
        return "Acting()"

    def gradients(self, network: Network, x: Tensor, y: Tensor, on_step: Any = None) -> StepResult:
        self.act(self.calls, x)
        self.calls += 1
        return BPTT().gradients(network, x, y)


def number() -> int:
    """Of this process, group or not."""
    return int(os.environ.get("RANK", "0"))


def in_one(process: int, act: Callable[[], Any]) -> Callable[[int, Tensor], None]:
    """At the third batch, in this process only."""
    return lambda batch, _: act() if batch == 2 and number() == process else None


def refuse() -> None:
    raise ValueError("bad sample")


def fit(folder: Path) -> dict[str, Any]:
    """All cases, each in a group of its own, and one in a group of the script's own."""
    found = {}
    for case in CASES:
        # Other weights in each process: those of process 0 count.
        trainer = make_trainer(case, folder / case, weights=number(), progress=case == "bptt")
        found[case] = result(trainer, trainer.fit())
    with distributed.process_group():
        trainer = make_trainer("ottt")
        found["own group"] = result(trainer, trainer.fit())
        found["own group"]["world"] = distributed.world()
    return found


def fail(folder: Path) -> dict[str, Any]:
    """What each process gets to know of failures; all go on with the next."""
    place = folder / "exists"
    other = number()
    runs: dict[str, tuple[dict[str, Any], Callable[[int, Tensor], None] | None, bool]] = {
        "divergence": ({"learning_rate": 1e200, "optimiser": "sgd"}, None, False),
        "error in 0": ({}, in_one(0, refuse), False),
        "error in 1": ({}, in_one(1, refuse), False),
        "exists": ({"folder": place}, None, False),
        "rehearsal": ({"folder": place}, lambda batch, x: refuse(), True),
        "unwritable": ({"folder": Path("/proc/run")}, None, False),
        "other data": ({"data": make_data(seed=5 + other)}, None, False),
        "other checkpoints": ({"checkpoint_batches": 1 + other}, None, False),
        "few samples": ({"batch_size": 49}, None, False),
    }
    make_trainer("bptt", place, epochs=1).fit()
    found = {}
    for name, (changes, act, overwrite) in runs.items():
        try:
            trainer = make_trainer("bptt", **changes)
            if act is not None:
                trainer.method = Acting(act)
            trainer.fit(overwrite=overwrite)
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]
    return found


def resume(folder: Path) -> dict[str, Any]:
    """What was killed, and what one process began."""
    found = {}
    for name in ("killed", "begun by one"):
        trainer = make_trainer("ottt", folder / name, weights=3)
        found[name] = result(trainer, trainer.resume())
    return found


def everything(folder: Path) -> dict[str, Any]:
    """All of the above, in one start of the processes."""
    before = threads()
    found = {"fail": fail(folder), "fit": fit(folder), "resume": resume(folder)}
    # Of the process that hosts it, the store keeps a thread.
    return found | {"threads": threads() - before - distributed.is_first()}


def kill(folder: Path) -> dict[str, Any]:
    """Process 1 is killed in the seventh batch, the third of the second epoch."""
    trainer = make_trainer("ottt", folder / "killed")
    method = trainer.method

    class Killed(Acting):
        def __repr__(self) -> str:
            return repr(method)

        def gradients(self, *arguments: Any) -> StepResult:
            self.act(self.calls, arguments[1])
            self.calls += 1
            return method.gradients(*arguments)

    trainer.method = Killed(lambda batch, _: os.kill(os.getpid(), signal.SIGKILL) if batch == 6 and number() == 1 else None)
    trainer.fit()
    return {}


JOBS = {job.__name__: job for job in (everything, kill)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[2])
    answer = JOBS[sys.argv[1]](place)
    (place / f"{sys.argv[1]} {number()}.json").write_text(json.dumps(answer))
