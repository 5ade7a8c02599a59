"""lava-snnlearn verify and emulate: a network file, samples of every kind, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import lava_snnlearn as snn
from lava_snnlearn import verification
from lava_snnlearn.fixed_point import emulator
from lava_snnlearn.fixed_point.graph import Connection, FixedNetwork, Population
from lava_snnlearn.fixed_point.host import HostInput


def test_verify_says_equal(call: Any, network: Path) -> None:
    result = call("verify", network, "--samples", "2")
    assert result.code == 0, result
    # 6 steps x 2 samples x (32 spikes + 32 + 10 membranes)
    assert "Lava fixed_pt simulation: 0 mismatches in 888 spikes and membranes" in result.out
    assert "2 samples, 6 steps, every population: EQUAL" in result.out


def test_verify_names_the_first_mismatch(call: Any, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = verification.emulate

    def wrong(*arguments: Any) -> Any:
        """Neuron 7 of the second sample is 1 too high after the first step."""
        trace = real(*arguments)
        trace.membranes["layer1"][0, 1, 7] += 1
        return trace

    monkeypatch.setattr(verification, "emulate", wrong)
    result = call("verify", network, "--samples", "2")
    assert result.code == 1, result
    assert "DIFFERENT" in result.out
    assert re.search(
        r"first mismatch: membrane of population 'layer1', neuron 7, step 0, sample 1: emulator -?\d+, lava -?\d+",
        result.out,
    )


def damaged(path: Path, network: Path, damage: str) -> Path:
    whole = network.read_bytes()
    if damage == "hdf5":
        with h5py.File(path, "w") as file:
            file["x"] = [1, 2, 3]
    else:
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        content = {"truncated": whole[:3000], "text": b"hello", "empty": b"", "flipped": bytes(flipped)}[damage]
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("command", ["verify", "emulate"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "flipped", "hdf5"])
def test_damaged_and_foreign_files_are_refused(refused: Any, tmp_path: Path, network: Path, command: str, damage: str) -> None:
    message = refused(command, damaged(tmp_path / "bad.h5", network, damage))
    assert "bad.h5 is " in message


def test_files_of_another_kind_are_refused(refused: Any, finished: Path) -> None:
    assert "holds 'weights', expected 'FixedNetwork'" in refused("verify", finished / "weights.h5")
    assert "does not exist or is not a file" in refused("emulate", finished)


@pytest.mark.parametrize("command", ["verify", "emulate"])
def test_bad_samples_are_refused(refused: Any, network: Path, command: str) -> None:
    assert "--samples is -2; give at least 1" in refused(command, network, "--samples", "-2")
    assert "--samples is 0; give at least 1" in refused(command, network, "--samples", "0")
    message = refused(command, network, "--data", "digit")
    assert "unknown data set 'digit'. Did you mean 'digits'?" in message
    assert "random" in message
    assert "give one of them" in refused(command, network, "--data", "random", "--npy", "x.npy")


@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_a_time_limit_has_to_be_positive(refused: Any, network: Path, limit: str) -> None:
    assert f"--time-limit is {limit}; give more than 0 seconds" in refused("verify", network, "--time-limit", limit)


def test_emulate_takes_the_data_of_the_run(call: Any, results: Any, finished: Path, network: Path) -> None:
    result = call("emulate", network)
    assert result.code == 0
    assert f"accuracy {results(finished)['fixed_accuracy']:.4f} on 360 samples" in result.out
    assert "FixedNetwork: 42 neurons" in result.out
    assert re.search(r"layer1: 0\.\d{4} spikes per neuron and step, 0 membranes clipped", result.out)
    assert "on 5 samples" in call("emulate", network, "--samples", "5").out
    assert call("emulate", network, "--data", "digits").out.splitlines()[:-1] == result.out.splitlines()[:-1]


def test_emulate_on_random_samples(call: Any, network: Path, tmp_path: Path) -> None:
    result = call("emulate", network, "--data", "random")
    assert result.code == 0
    assert "64 samples in" in result.out
    assert "accuracy" not in result.out, "random samples have no labels"
    alone = tmp_path / "network.h5"
    alone.write_bytes(network.read_bytes())
    assert "3 samples in" in call("emulate", alone, "--samples", "3").out, "without a run beside it, samples are random"


@pytest.mark.parametrize("form", ["current", "graded", "spikes"])
@pytest.mark.parametrize("encoding", ["direct", "rate"])
def test_random_samples_fit_every_input(call: Any, tmp_path: Path, form: str, encoding: str) -> None:
    model = snn.networks.mlp([4, 5, 3], steps=3, encoding=encoding)
    # Data that random numbers between 0 and 1 would not fit.
    top = 1 if encoding == "rate" else 9
    calibration = np.linspace(0, 1, 40, dtype=np.float32).reshape(10, 4) + top - 1
    snn.quantize(model, input=form, calibration=calibration).save(tmp_path / "n.h5")
    result = call("emulate", tmp_path / "n.h5", "--samples", "6")
    assert result.code == 0, result
    assert "6 samples in" in result.out


def test_emulate_on_own_samples_and_save(call: Any, network: Path, tmp_path: Path) -> None:
    chip = snn.FixedNetwork.load(network)
    x = snn.data.load("digits").test.x[:7]
    np.save(tmp_path / "x.npy", x)
    result = call("emulate", network, "--npy", tmp_path / "x.npy", "--save", tmp_path / "new" / "answers.npz")
    assert result.code == 0, result
    expected = snn.emulate(chip, x)
    with np.load(tmp_path / "new" / "answers.npz", allow_pickle=False) as saved:
        assert sorted(saved) == ["outputs", "predictions"]
        np.testing.assert_array_equal(saved["outputs"], expected.outputs)
        np.testing.assert_array_equal(saved["predictions"], expected.predictions)
    sequence = np.stack([x] * 6)
    np.save(tmp_path / "sequence.npy", sequence)
    call("emulate", network, "--npy", tmp_path / "sequence.npy", "--samples", "2", "--save", tmp_path / "two.npz")
    with np.load(tmp_path / "two.npz") as saved:
        np.testing.assert_array_equal(saved["outputs"], expected.outputs[:2])


class Bomb:
    """What a pickle can do: unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


def test_pickles_are_not_opened(refused: Any, network: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bomb.npy", np.array([Bomb(tmp_path / "exploded")], dtype=object), allow_pickle=True)
    for command in ("verify", "emulate"):
        message = refused(command, network, "--npy", tmp_path / "bomb.npy")
        assert "bomb.npy is not a readable .npy array" in message
    assert not (tmp_path / "exploded").exists()


def test_own_samples_that_do_not_fit_are_refused(refused: Any, network: Path, tmp_path: Path) -> None:
    def refusal(array: Any) -> str:
        np.save(tmp_path / "x.npy", array)
        return refused("emulate", network, "--npy", tmp_path / "x.npy")

    zeros = np.zeros((5, 64), np.float32)
    assert "(5, 63) does not fit; expected [batch, 64]" in refusal(zeros[:, 1:])
    assert "does not fit" in refusal(np.stack([zeros] * 5))
    assert "x.npy has shape (0, 64); it holds no samples" in refusal(zeros[:0])
    assert "has shape ()" in refusal(np.float32(3))
    assert "has shape (64,); expected samples [N, features]" in refusal(zeros[0])
    assert "NaN or infinite" in refusal(np.full_like(zeros, np.nan))
    assert "holds complex128" in refusal(zeros.astype(complex))
    assert "outside of the limit" in refusal(zeros + 1e9)
    np.savez(tmp_path / "z.npz", x=zeros)
    assert "archive of several arrays" in refused("emulate", network, "--npy", tmp_path / "z.npz")
    assert "No such file" in refused("emulate", network, "--npy", tmp_path / "none.npy")
    (tmp_path / "empty.npy").touch()
    assert "not a readable .npy array" in refused("emulate", network, "--npy", tmp_path / "empty.npy")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    refused: Any, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator, "emulate", None)
    assert "cannot write /proc/none/x.npz" in refused("emulate", network, "--save", "/proc/none/x.npz")


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '{"settings": 3}'])
def test_a_damaged_summary_is_named(call: Any, refused: Any, network: Path, tmp_path: Path, content: str) -> None:
    copy = tmp_path / "network.h5"
    copy.write_bytes(network.read_bytes())
    (tmp_path / "summary.json").write_text(content)
    message = refused("emulate", copy)
    assert "summary.json does not say which data set" in message
    assert "--data" in message
    assert call("emulate", copy, "--data", "digits").code == 0


@pytest.fixture
def delayed(tmp_path: Path) -> Path:
    """A network file without host weights and with a delay that is shorter than the target waits: integers in, no torch forward
    to compare with."""
    populations = (Population("a", 2, vth=9), Population("out", 1, "accumulator", t_start=3))
    edges = (Connection("a", "out", [[254, -4]], delay=1),)
    path = tmp_path / "delayed.h5"
    FixedNetwork(populations, edges, HostInput("current", 2, targets=("a",)), 4, "out").save(path)
    return path


def test_a_network_without_a_torch_forward_is_verified_on_lava(call: Any, delayed: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[3, 9], [12, 0]]))
    for options in (["--npy", str(tmp_path / "x.npy")], ["--samples", "3"], ["--against", "lava"]):
        result = call("verify", str(delayed), *options)
        assert result.code == 0, result.err
        assert "Lava fixed_pt simulation: 0 mismatches" in result.out
        assert "torch forward of the quantised network: not compared" in result.out


def test_integer_networks_are_emulated_on_random_integers(call: Any, delayed: Path) -> None:
    result = call("emulate", str(delayed), "--samples", "5")
    assert result.code == 0, result.err
    assert "5 samples in" in result.out


def test_against_is_checked(call: Any, delayed: Path) -> None:
    for against, message in (("torch", "graphs without cycles"), ("lva", "Did you mean 'lava'")):
        result = call("verify", str(delayed), "--against", against)
        assert result.code == 2
        assert message in result.err
