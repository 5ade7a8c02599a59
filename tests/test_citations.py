"""citation(): the right papers for every method, with what a bibliography needs."""

from __future__ import annotations

import re

import pytest

import lava_snnlearn as snn
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.methods import METHODS

FIRST_AUTHORS = {"bptt": ["P. J. Werbos", "E. O. Neftci"], "ottt": ["M. Xiao", "S. Qiao"], "sltt": ["Q. Meng"]}
YEARS = {"bptt": ["1990", "2019"], "ottt": ["2022", "2019"], "sltt": ["2023"]}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_has_its_papers(name: str) -> None:
    *papers, platform = snn.citation(name).splitlines()
    assert [paper.startswith(author) for paper, author in zip(papers, FIRST_AUTHORS[name], strict=True)] == [True] * len(papers)
    assert [re.findall(r"(\d{4})\.$", paper)[0] for paper in papers] == YEARS[name]
    assert "Loihi" in platform
    assert platform.startswith("M. Davies")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_an_instance_cites_as_its_name(name: str) -> None:
    assert snn.citation(METHODS[name]()) == snn.citation(name)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"'otttt'\. Did you mean 'ottt'\?"):
        snn.citation("otttt")

    class Mine:
        pass

    with pytest.raises(UnknownNameError, match="'Mine'"):
        snn.citation(Mine())
