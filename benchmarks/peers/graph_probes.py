"""Speed and memory of message passing on a graph, measured in a process of its own: one line of JSON for the JSON given."""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from edge_by_edge import propagate_per_edge
from torch import Tensor

import lava_snnlearn as snn
from lava_snnlearn.data.knowledge_graph import KnowledgeGraph
from lava_snnlearn.graphs import Graph
from lava_snnlearn.networks.message_fused import memory_estimate
from lava_snnlearn.networks.message_passing import propagate
from lava_snnlearn.networks.propagation import Tables
from lava_snnlearn.reasoning import both_queries, evaluate
from lava_snnlearn.reasoning.lessons import Lessons
from lava_snnlearn.reasoning.settings import ReasoningSettings


def memory(field: str) -> int:
    """VmRSS (resident now) or VmHWM (its peak) of this process, bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}; memory is measured on Linux only")
    return 1024 * int(found[1])


def stir(model: snn.networks.GraphReasoner, gain: float, earlier: float) -> None:
    """Make W = gain |W|, and shift the delays towards 0 by so much before the sigmoid."""
    with torch.no_grad():
        model.combine.weight.abs_().mul_(gain)
        model.delay_map.bias.sub_(earlier)


def probe_engine(
    data: str, engine: str, width: int, scale: float, batch: int, stirred: tuple[float, float], rounds: int
) -> dict[str, float]:
    """Milliseconds of CPU, bytes above what was there before the first step, rate, and numbers to compare results by."""
    facts = snn.data.load_graph(data)
    torch.manual_seed(0)
    model = snn.networks.GraphReasoner(facts.query_relations, width=width, scale=scale)
    stir(model, *stirred)
    source, query = (torch.from_numpy(part[:batch].copy()) for part in both_queries(facts, facts.test)[:2])
    graph, places = facts.graph(), torch.arange(batch)

    def features(on: Graph, at: Tensor) -> Tensor:
        tables = Tables(model.query_code(query), model.delay_times(query), None, model.combine.weight, model.combine.bias)
        if engine == "edges":
            return propagate_per_edge(on, model.rule, tables, at)
        return propagate(on, model.rule, tables, at, places, backend={"compiled": "fused", "pairs": "torch"}[engine]).features

    def step(on: Graph, at: Tensor) -> float:
        model.zero_grad()
        begin = time.process_time()
        features(on, at).square().sum().backward()
        return time.process_time() - begin

    step(Graph(2, graph.relations, [0], [0], [1]), torch.zeros_like(source))  # compiles, and loads what is loaded once
    before = memory("VmHWM")
    both = [step(graph, source)]
    peak = memory("VmHWM") - before
    both += [step(graph, source) for _ in range(rounds - 1)]
    assert model.delay_map.weight.grad is not None
    gradient = float(model.delay_map.weight.grad.norm())
    forward = []
    with torch.inference_mode():
        for _ in range(rounds):
            begin = time.process_time()
            total = float(features(graph, source).double().sum())
            forward.append(time.process_time() - begin)
        spikes = model.run(graph, source, query).spike_count
    formula = memory_estimate(graph, width, steps=model.rule.steps, batch=batch, threads=1)
    return {
        "edges": graph.edges, "nodes": graph.nodes, "forward_ms": 1e3 * statistics.median(forward),
        "both_ms": 1e3 * statistics.median(both), "peak": peak, "formula": formula, "features": total, "gradient": gradient,
        "rate": spikes / (batch * graph.nodes * width * model.rule.steps),
    }  # fmt: skip


def probe_large(
    data: str, options: dict[str, Any], samples: tuple[int, int], stirred: tuple[float, float] | None
) -> dict[str, float]:
    """One training step of the recipe and evaluation of a few queries: seconds of CPU and bytes."""
    settings = ReasoningSettings(data=data, **options)
    facts = settings.load()
    assert isinstance(facts, KnowledgeGraph)
    settings = settings.completed(facts)
    model, method = settings.model(facts), settings.method()
    if stirred:
        stir(model, *stirred)
    width, steps, batch = (int(number or 0) for number in (settings.width, settings.steps, settings.batch_size))
    lessons = Lessons(facts, method, batch, 1, settings.seed, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate or 0.0)
    nowhere = torch.zeros(1, dtype=torch.long)
    method.gradients(model, Graph(2, model.relations, [0], [0], [1]), nowhere, nowhere, nowhere.expand(1, 2))  # compiles
    model.zero_grad()
    before, begin = memory("VmRSS"), time.process_time()
    lesson = next(lessons.of_update(lessons.updates(0)[0], 0, 0))
    asked = (torch.from_numpy(array) for array in lesson[1:])
    rate = method.gradients(model, lesson.graph, *asked).spike_rate
    optimiser.step()
    step, peak = time.process_time() - begin, memory("VmHWM")
    spent, queries = [], []
    for limit in samples:
        begin = time.process_time()
        queries.append(evaluate(model, facts, limit=limit).queries)
        spent.append(time.process_time() - begin)
    graph = facts.graph()
    formula = memory_estimate(graph, width, steps=steps, batch=batch, threads=1)
    return {
        "edges": graph.edges, "nodes": graph.nodes, "width": width, "steps": steps, "batch": batch,
         "scale": settings.scale or 0.0, "rate": rate, "step_s": step, "peak": peak,
        "above": peak - before, "formula": formula, "queries": queries[1] - queries[0],
        "query_s": (spent[1] - spent[0]) / (queries[1] - queries[0]), "peak_evaluation": memory("VmHWM"),
    }  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    request = json.loads(sys.argv[1])
    print(json.dumps({"engine": probe_engine, "large": probe_large}[request.pop("what")](**request)))
