"""What the fixed arithmetic of Lava's stock learning engine makes of OTTT, HLOP and OPZO.

The rules of ``lava_snnlearn.lava_backend.stock`` in the fixed engine against float64 under the same drive, in units of one
weight step (LSB).

    python benchmarks/stock_rules.py [--quick] [--write]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lava_snnlearn.lava_backend import stock
from lava_snnlearn.lava_backend.stock.engine import FIXED, FLOATING

RESULTS = Path(__file__).parent / "results" / "stock_rules.md"


def even(values: np.ndarray) -> np.ndarray:
    """The even integers next to values, from which the fixed engine starts."""
    return 2 * np.round(values / 2).astype(np.int64)


def row(name: str, start: np.ndarray, floating: np.ndarray, fixed: np.ndarray) -> str:
    """One line of the first table."""
    d = stock.deviation(start, floating, fixed)
    numbers = (d.travelled, d.drift, d.spread, d.bias_up, d.bias_down, d.shared, 1 / start.size)
    return f"| {name} | {len(fixed)} | " + " | ".join(f"{value:.3f}" for value in numbers) + " |"


def ottt(steps: int) -> list[str]:
    """OTTT and SLTT, epochs of four Lava steps, 16 inputs, 8 neurons."""
    rng = np.random.default_rng(0)
    start = even(rng.normal(scale=40, size=(8, 16)))
    spikes = (rng.random((steps, 16)) < 0.3).astype(np.int64)
    errors = np.clip(np.round(rng.normal(scale=20, size=(steps, 8))), -127, 127).astype(np.int64)
    rows = []
    for name, how in (
        ("OTTT, epochs of 4, x1 impulse 63", stock.ThreeFactor(leak=0.5, exponent=-10, impulse=63)),
        ("OTTT, epochs of 1, x1 impulse 32", stock.ThreeFactor(leak=0.5, exponent=-10, impulse=32, epoch=1)),
        ("SLTT, epochs of 4", stock.ThreeFactor(leak=0.5, exponent=-5, trace=False)),
    ):
        exact = stock.learn_layer(how, start, spikes, lambda t, _: errors[t])
        rows.append(row(name, start, exact.learned, stock.run_layer(how, start, spikes, errors, tag=FIXED).learned))
    return rows


def hlop(steps: int) -> tuple[list[str], list[str]]:
    """HLOP's lateral rows, 4 rows of 16 inputs that lie in a subspace; and the copy of the return path."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    samples = np.abs(rng.normal(size=(steps, 4)) * [4, 3, 2, 1] @ basis[:4]) / 4
    learning = stock.learn_subspace(basis[4:8], samples, -6)
    start = even(100 * basis[4:8])
    pre, post = (np.clip(np.round(60 * v), -127, 127).astype(np.int64) for v in (learning.residuals, learning.responses))
    exact = start + np.cumsum(2.0**-10 * post[:, :, None] * pre[:, None], axis=0)
    forward = stock.run_signed_updates(start, pre, post, exponent=-10, tag=FIXED).weights
    back = stock.run_signed_updates(start.T.copy(), post, pre, exponent=-10, tag=FIXED).weights
    changes = np.diff(forward, axis=0, prepend=start[None])
    flips = int(np.count_nonzero(changes * (post[:, :, None] * pre[:, None]) < 0))
    gap = float(np.sqrt(np.mean((forward[-1] - back[-1].T) ** 2)))
    notes = [
        f"HLOP: updates with the wrong sign: {flips} of {changes.size}.",
        f"HLOP: the rows and the copy on the return path, equal in float, are {gap:.1f} LSB apart (root mean square): an "
        "update comes in other steps there, with other rounding numbers.",
    ]
    return [row("HLOP, two phases", start, exact, forward)], notes


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two matrices."""
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def opzo(steps: int) -> tuple[list[str], list[str]]:
    """OPZO's feedback matrix of 16 neurons and 4 outputs that answer linearly; lambda = 1 - 2^-7 a network step."""
    rng = np.random.default_rng(2)
    jacobian = rng.normal(scale=10, size=(4, 16))
    signs = rng.choice([-1, 1], size=(steps, 16))
    outputs = np.clip(np.round(signs @ jacobian.T), -127, 127).astype(np.int64)
    start, silence = np.zeros((16, 4), np.int64), np.zeros_like(outputs)
    rows, notes = [], []
    for noise, gain, shift, decimation in ((8, -10, 7, 2), (1, -7, 7, 2), (8, -10, 3, 6)):
        how = stock.DecimatedDecay(gain, shift, decimation)
        drive = outputs, noise * signs, silence
        exact = stock.learn_feedback(how, start, *drive).matrices
        found = stock.run_feedback(how, start, *drive, tag=FIXED).matrices
        name = f"OPZO, noise ±{noise}, decay 2^-{shift} every {how.period} steps"
        rows.append(row(name, start, exact, found))
        cosines = (cosine(matrices[-1], jacobian.T) for matrices in (exact, found))
        notes.append(
            f"{name}: cosine of M and the exact Jacobian {{:.3f}} in float64, {{:.3f}} in the fixed engine.".format(*cosines)
        )
    return rows, notes


def negative_factors() -> str:
    """What becomes of a negative post factor where the post neuron spikes."""
    rule = stock.StockRule(weight=(stock.Product(1, -2, "u0", ("x1", "y1")),), graded=True)
    start, payload = np.zeros((2, 1), np.int64), np.array([[20]])
    spiking = np.array([[0, 1]])
    found = [
        stock.run_stock(start, rule, payload, {"y1": np.array([[-40, -40]])}, tag=tag, post_spikes=spiking).weights[-1].ravel()
        for tag in (FLOATING, FIXED)
    ]
    changes = ", ".join(f"{tag} {list(map(int, values))}" for tag, values in zip((FLOATING, FIXED), found, strict=True))
    return f"A factor of -40 changes the weight of a neuron that is silent, and of one that spikes (`s_in_bap`), by: {changes}."


def main() -> None:
    """Measure and print; --write keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps: a smoke run")
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/results/stock_rules.md")
    options = parser.parse_args()
    steps = 12 if options.quick else 1000
    hlop_rows, hlop_notes = hlop(steps)
    opzo_rows, opzo_notes = opzo(steps)
    lines = [
        "Command: `python benchmarks/stock_rules.py --write`",
        "",
        "Lava's fixed learning engine against float64 under the same drive, in LSB of the weights. Travelled, drift: root mean",
        "square over the synapses of the whole change, and of its error. Spread, bias: of the error of one update. Shared:",
        "part of the error that all synapses have in common; 1/synapses where each is rounded on its own.",
        "",
        "| rule | updates | travelled | drift | spread | bias of increases | bias of decreases | shared | 1/synapses |",
        "|---|---|---|---|---|---|---|---|---|",
        *ottt(steps),
        *hlop_rows,
        *opzo_rows,
        "",
        *(f"- {note}" for note in (*hlop_notes, *opzo_notes, negative_factors())),
    ]
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
