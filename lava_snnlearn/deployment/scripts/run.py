"""Run the network of this folder on a Loihi 2 chip, or with --sim on Lava's simulator, and write results.npz.

    python run.py --sim
    python run.py [--latency STEPS]

Then `python compare.py`. Exit status: 0 the run is over, 2 an error (also: nothing moved for --time-limit seconds).

Time: sample after sample, `interval` steps each. In the first `origin` steps of a sample its input is still on its way to the
chip. Populations start `t_start` steps later, each in the step in which it hears the first step of the input. Where samples
run one by one, each is a run of its own, on fresh processes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
POLL = 0.2
"""Seconds between two looks at the run."""
TAIL = 4
"""Steps after the last sample, so that answers that come late are still recorded."""
MESSAGE_BITS = 24
"""Of the adapters, where values are sent that are not spikes."""
THRESHOLD_MAX = (1 << 17) - 1
WAITING = 1 - (1 << 23)
"""Membrane of neurons that start late: their bias, which acts at once, cannot make them spike until then."""


def main() -> int:
    """Start the run in a process of its own, and end it if it stands still: Lava itself may wait for ever."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sim", action="store_true", help="run on Lava's simulator instead of the chip")
    parser.add_argument("--latency", type=int, default=0, help="steps from the source to the chip (default 0)")
    parser.add_argument(
        "--time-limit", type=float, default=300.0, help="seconds without a finished sample until the run is killed"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.latency < 0 or not options.time_limit > 0:
        print("error: --latency must be 0 or more, --time-limit above 0", file=sys.stderr)
        return 2
    if options.worker:
        threading.Thread(target=end_with_parent, daemon=True).start()
        # Lava's children and threads do not always leave, so that nothing may wait for them at the end.
        os._exit(work(options.sim, options.latency))
    try:
        check_sums()
        check_target(options.sim)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return watch([sys.executable, str(Path(__file__).resolve()), "--worker", *sys.argv[1:]], options.time_limit)


def watch(command: list[str], time_limit: float) -> int:
    """Run a command in a process group of its own; kill the group when it ends, or prints nothing for so many seconds."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, start_new_session=True, env=environment)
    assert worker.stdout is not None
    moved = time.monotonic()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            while True:
                # Not until the pipe's end: a process of Lava that was left behind may keep it open.
                ended = worker.poll() is not None
                if selector.select(0 if ended else POLL):
                    block = os.read(worker.stdout.fileno(), 1 << 16)
                    print(block.decode(errors="replace"), end="", flush=True)
                    moved = time.monotonic()
                    if block:
                        continue
                    worker.wait()
                    break
                if ended:
                    break
                if time.monotonic() - moved > time_limit:
                    print(f"error: nothing moved for {time_limit:g} s, the run was killed; see --time-limit", file=sys.stderr)
                    return 2
        if worker.returncode == 0:
            return 0
        print("error: the run failed; see above", file=sys.stderr)
        return 2
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def end_with_parent() -> None:
    """Kill this process group when the process that watches it is gone: its end of the pipe closes, however it died."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(0, signal.SIGKILL)


def check_sums() -> None:
    """Raise ValueError where a file is not what deploy wrote."""
    for line in (FOLDER / "SHA256SUMS").read_text().splitlines():
        wanted, name = line.split(maxsplit=1)
        if hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() != wanted:
            raise ValueError(f"{name} is not the file that was deployed (SHA256SUMS); copy the folder again")


def check_target(sim: bool) -> None:
    """Raise ValueError where this network cannot run on the target."""
    facts = json.loads((FOLDER / "bundle.json").read_text())
    if not sim and not facts["stock"]:
        raise ValueError(
            f"populations {facts['not_stock']} are neurons for which the public Lava packages have no Loihi microcode "
            f"({facts['reason']}). On the simulator they run: --sim. For the chip train with reset='zero', which is Lava's "
            "LIF, or write the neuron in microcode with Intel's closed extension."
        )


def work(sim: bool, latency: int) -> int:
    """Build, run sample after sample, and write the results; the exit status."""
    try:
        write_results(sim, latency)
    except BaseException:  # told here, as nothing is told after os._exit
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


def write_results(sim: bool, latency: int) -> None:
    """Build the network, run it, and write results.npz in one step."""
    facts = json.loads((FOLDER / "bundle.json").read_text())
    with np.load(FOLDER / "inputs.npz", allow_pickle=False) as file:
        signal_rows = file["input"]
    network = read_network(FOLDER / "network.h5")
    samples = signal_rows.shape[1]
    size = 1 if facts["one_by_one"] else samples
    runs: dict[str, list[Any]] = {}
    for first in range(0, samples, size):
        graph = Graph(network, facts, signal_rows[:, first : first + size], sim, latency)
        if not first:
            print(f"built: {len(network['populations'])} populations, {graph.interval} steps a sample", flush=True)
        for key, values in graph.run(first, size).items():
            runs.setdefault(key, []).append(values)
    arrays = {key: np.concatenate(parts) for key, parts in runs.items()}
    layout = np.array([graph.interval + (TAIL if facts["one_by_one"] else 0), graph.origin, samples])
    temporary = FOLDER / ".results.npz"
    try:
        with temporary.open("wb") as opened:
            np.savez_compressed(opened, layout=layout, **arrays)
        temporary.replace(FOLDER / "results.npz")
    finally:
        temporary.unlink(missing_ok=True)
    print("wrote results.npz", flush=True)


def read_network(path: Path) -> dict[str, Any]:
    """The nested dict of numbers, strings and arrays in a network file of lava_snnlearn."""
    import h5py

    def group(node: Any) -> Any:
        if "scalar" in node.attrs:
            return json.loads(node.attrs["scalar"])
        items = {key: item[()] if isinstance(item, h5py.Dataset) else group(item) for key, item in node.items()}
        return [items[str(index)] for index in range(len(items))] if node.attrs["container"] == "list" else items

    with h5py.File(path, "r") as file:
        tree: dict[str, Any] = group(file["content"])
    return tree


class Graph:
    """The processes of the network, its sources and its sinks."""

    def __init__(self, network: dict[str, Any], facts: dict[str, Any], signal_rows: Any, sim: bool, latency: int) -> None:
        self.facts, self.sim, self.steps, self.one_by_one = facts, sim, int(network["steps"]), facts["one_by_one"]
        self.config = self.run_config()
        targets = network["host"]["targets"]
        # A current enters through a synapse of its own, which takes one step.
        self.origin = latency + (1 if targets else 0)
        self.interval = facts["period"] + self.origin
        self.populations = {population["name"]: population for population in network["populations"]}
        self.late: dict[str, dict[str, Any]] = {}
        self.neurons = {name: self.neuron(population) for name, population in self.populations.items()}
        self.latency = latency
        self.first: Any = None
        with np.load(FOLDER / "matrices.npz", allow_pickle=False) as matrices:
            self.connect(network, signal_rows, {key: matrices[key] for key in matrices.files})
        self.sinks = {name: self.sink(name) for name in facts["populations"] if self.populations[name]["kind"] != "accumulator"}
        self.read = [name for name in facts["populations"] if self.populations[name]["kind"] == "accumulator"]

    def neuron(self, population: dict[str, Any]) -> Any:
        """The process of a population; idle and reset as its t_start says."""
        start = int(population["t_start"]) + self.origin
        shape, kind = (int(population["size"]),), population["kind"]
        bias: dict[str, Any] = {
            "bias_mant": np.asarray(population["bias_mant"], dtype=np.int64),
            "bias_exp": int(population["bias_exp"]),
        }
        if kind == "lif" or (kind == "accumulator" and self.facts["stock"]):
            return self.stock_neuron(population, start, shape=shape, **bias)
        times: dict[str, Any] = {"t_start": start, "t_stop": start + self.steps, "reset_interval": self.interval}
        if kind == "graded":
            from lava_snnlearn.processes.ep_neuron.process import EPNeuron

            return EPNeuron(shape=shape, shift=int(population["shift"]), top=int(population["top"]), **bias, **times)
        from lava_snnlearn.processes.soft_reset_lif.process import SoftResetLIF

        silent = kind == "accumulator"
        return SoftResetLIF(
            shape=shape,
            dv=int(population["dv"]),
            vth=THRESHOLD_MAX if silent else int(population["vth"]),
            delta=0 if silent else int(population["delta"]),
            v_init=int(population["v_init"]),
            **bias,
            **times,
        )

    def stock_neuron(self, population: dict[str, Any], start: int, **options: Any) -> Any:
        """Lava's LIF, which never pauses, and is reset when a sample starts.

        If samples run one by one, it begins with a state of its own instead, and may have resets of its own. As long as
        the input is on its way to the chip, it has neither state nor bias, so that it is silent.
        """
        from lava.proc.lif.process import LIF, LIFReset

        spiking = population["kind"] == "lif"
        # The threshold of an accumulator is out of reach: deploy has checked it.
        options |= {"du": int(population["du"]), "dv": int(population["dv"])}
        options["vth"] = int(population["vth"]) if spiking else THRESHOLD_MAX
        # Lava counts steps from 1.
        once = {"reset_interval": self.interval + (TAIL if self.one_by_one else 0), "reset_offset": start + 1}
        if not (self.one_by_one and spiking):
            return LIFReset(**options, **once)
        begin = {
            "bias_mant": options["bias_mant"],
            "u": np.asarray(population["u_init"]),
            "v": np.asarray(WAITING if population["t_start"] else population["v_init"]),
        }
        begin = {key: np.broadcast_to(value, options["shape"]).astype(np.int32) for key, value in begin.items()}
        if self.origin:
            self.late[population["name"]] = {key: value for key, value in begin.items() if value.any()}
            begin = {"bias_mant": np.zeros(options["shape"], np.int32)}
        options |= begin
        if population["reset_interval"]:
            own = int(population["reset_interval"]), int(population["reset_offset"]) + self.origin
            return LIFReset(**options, reset_interval=own[0], reset_offset=own[1])
        return LIFReset(**options, **once) if population["t_start"] else LIF(**options)

    def connect(self, network: dict[str, Any], signal_rows: Any, matrices: dict[str, Any]) -> None:
        """Sources and synapses."""
        if not network["host"]["targets"]:
            fed = self.source(signal_rows, 0, network["host"]["form"] != "spikes")
        before = 0
        for name in network["host"]["targets"]:
            size, start = int(self.populations[name]["size"]), int(self.populations[name]["t_start"])
            port = self.source(signal_rows[:, :, before : before + size], start, True)
            synapse = identity(size)
            port.connect(synapse.s_in)
            synapse.a_out.connect(self.neurons[name].a_in)
            before += size
        for connection in network["connections"]:
            source, target = connection["source"], connection["target"]
            synapse = synapses(connection, self.facts["message_bits"][name_of(connection)], matrices)
            (fed if source == "input" else self.neurons[source].s_out).connect(synapse.s_in)
            synapse.a_out.connect(self.neurons[target].a_in)

    def source(self, part: Any, start: int, graded: bool) -> Any:
        """The port that sends [T, B, n], T steps from step ``start`` of every sample on, to the chip."""
        from lava.proc.io.source import RingBuffer

        samples, size = part.shape[1:]
        rows = np.zeros((samples, self.interval, size), np.int32)
        # On the chip the way takes `latency` steps by itself.
        late = start + (self.latency if self.sim else 0)
        rows[:, late : late + self.steps] = part.swapaxes(0, 1)
        data = np.concatenate([rows.reshape(-1, size), np.zeros((TAIL, size), np.int32)])
        ring = RingBuffer(data=np.ascontiguousarray(data.T))
        self.first = ring if self.first is None else self.first
        if self.sim:
            return ring.s_out
        from lava.proc.embedded_io.spike import PyToNxAdapter

        adapter = PyToNxAdapter(shape=(size,), **({"num_message_bits": MESSAGE_BITS} if graded else {}))
        ring.s_out.connect(adapter.inp)
        return adapter.out

    def sink(self, name: str) -> Any:
        """What records a population's spikes, one sample at a time."""
        from lava.proc.io.sink import RingBuffer

        population, port = self.populations[name], self.neurons[name].s_out
        ring = RingBuffer(shape=(int(population["size"]),), buffer=self.interval)
        if not self.sim:
            from lava.proc.embedded_io.spike import NxToPyAdapter

            bits = {"num_message_bits": MESSAGE_BITS} if population["kind"] == "graded" else {}
            adapter = NxToPyAdapter(shape=(int(population["size"]),), **bits)
            port.connect(adapter.inp)
            port = adapter.out
        port.connect(ring.a_in)
        return ring

    def run_config(self) -> Any:
        """Lava's own run configuration."""
        from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
        from lava.proc.io import sink, source
        from lava.utils import loihi

        if self.sim:
            return Loihi2SimCfg(select_tag="fixed_pt")
        if not loihi.is_installed():
            raise RuntimeError("Intel's closed extension lava-loihi is not installed here; run.py --sim needs none")
        return Loihi2HwCfg(
            exception_proc_model_map={
                source.RingBuffer: source.PySendModelFixed,
                sink.RingBuffer: sink.PyReceiveModelFixed,
            }
        )

    def run(self, before: int, samples: int) -> dict[str, Any]:
        """Spikes [steps, n] of all steps, and final membranes [B, n] of accumulators; ``before``: samples of earlier runs."""
        from lava.magma.core.run_conditions import RunSteps

        config = self.config
        ends = {name: int(self.populations[name]["t_start"]) + self.origin + self.steps for name in self.read}
        spikes: dict[str, list[Any]] = {name: [] for name in self.sinks}
        membranes: dict[str, list[Any]] = {name: [] for name in self.read}
        for sample in range(samples):
            now = 0
            for stop in sorted({*ends.values(), self.interval, *([self.origin] if any(self.late.values()) else [])}):
                if stop > now:
                    self.first.run(condition=RunSteps(num_steps=stop - now), run_cfg=config)
                now = stop
                if stop == self.origin:
                    self.begin()
                for name in (name for name, end in ends.items() if end == stop):
                    membranes[name].append(np.asarray(self.neurons[name].v.get()).reshape(-1))
            for name, ring in self.sinks.items():
                spikes[name].append(np.asarray(ring.data.get()).T)
            print(f"sample {before + sample + 1} of {self.facts['samples']}", flush=True)
        self.first.run(condition=RunSteps(num_steps=TAIL), run_cfg=config)
        for name, ring in self.sinks.items():
            spikes[name].append(np.asarray(ring.data.get()).T[:TAIL])
        self.first.stop()
        found = {f"spikes/{name}": np.concatenate(rows).astype(np.int32) for name, rows in spikes.items()}
        return found | {f"membrane/{name}": np.array(rows).astype(np.int32) for name, rows in membranes.items()}

    def begin(self) -> None:
        """Give all neurons what was held back until the input is there."""
        for name, values in self.late.items():
            for key, value in values.items():
                getattr(self.neurons[name], key).set(value)


def name_of(connection: dict[str, Any]) -> str:
    """source_to_target, or source_to_target_label."""
    return "_".join(filter(None, (f"{connection['source']}_to_{connection['target']}", connection["label"])))


def identity(size: int) -> Any:
    """Synapses that hand on a value to the neuron of the same number: 2 * value >> 1, as mixed weights are even."""
    from lava.proc.sparse.process import Sparse
    from lava.utils.weightutils import SignMode
    from scipy.sparse import identity as matrix

    weights = (2 * matrix(size, dtype=np.int32)).tocsr()
    return Sparse(weights=weights, weight_exp=-1, num_weight_bits=8, num_message_bits=MESSAGE_BITS, sign_mode=SignMode.MIXED)


def synapses(connection: dict[str, Any], message_bits: int, matrices: dict[str, Any]) -> Any:
    """Lava's process of a connection; a convolution is written out, synapse by synapse."""
    from lava.proc.dense.process import DelayDense, Dense
    from lava.proc.sparse.process import DelaySparse, Sparse
    from lava.utils.weightutils import SignMode
    from scipy.sparse import csr_matrix

    name, delays = name_of(connection), np.asarray(connection["delay"], dtype=np.int64)
    options: dict[str, Any] = {
        "weight_exp": int(connection["exponent"]),
        "num_weight_bits": 8,
        "num_message_bits": message_bits,
        "sign_mode": SignMode[str(connection.get("sign_mode", "mixed")).upper()],
    }
    if connection["geometry"] is None:
        weights = np.asarray(connection["weight"], dtype=np.int64)
        if not delays.any():
            return Dense(weights=weights, **options)
        return DelayDense(weights=weights, delays=np.broadcast_to(delays, weights.shape).copy(), **options)
    data, rows, columns, shape = (matrices[f"{name}/{key}"] for key in ("data", "rows", "columns", "shape"))
    matrix = csr_matrix((data, (rows, columns)), shape=tuple(int(n) for n in shape))
    if not delays.any():
        return Sparse(weights=matrix, **options)
    waits = csr_matrix((np.full(len(data), int(delays)), (rows, columns)), shape=matrix.shape)
    return DelaySparse(weights=matrix, delays=waits, **options)


if __name__ == "__main__":
    raise SystemExit(main())
