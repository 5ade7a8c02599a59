"""citation(): the right papers for every method, with what a bibliography needs."""

from __future__ import annotations

import re

import pytest

import lava_snnlearn as snn
from lava_snnlearn.checks import UnknownNameError
from lava_snnlearn.methods import METHODS

PAPERS = {
    "bptt": [("P. J. Werbos", "1990"), ("E. O. Neftci", "2019"), ("A. Gruslys", "2016")],
    "dfa": [("A. Nøkland", "2016"), ("M. Xiao", "2022")],
    "dsr": [("Q. Meng", "2022")],
    "ep": [("M. Ernoult", "2019"), ("B. Scellier", "2017")],
    "fa": [("T. P. Lillicrap", "2016"), ("Q. Liao", "2016"), ("M. Xiao", "2022")],
    "gpm": [("G. Saha", "2021")],
    "grsnn": [("M. Xiao", "2024"), ("Z. Sun", "2019")],
    "hlop": [("M. Xiao", "2024")],
    "ide": [("M. Xiao", "2021")],
    "opzo": [("M. Xiao", "2024"), ("M. Xiao", "2022")],
    "ottt": [("M. Xiao", "2022"), ("S. Qiao", "2019")],
    "rate_bp": [("C. Yu", "2024")],
    "sab": [("N. R. Ke", "2018")],
    "spide": [("M. Xiao", "2023"), ("M. Xiao", "2021")],
    "sltt": [("Q. Meng", "2023")],
}


@pytest.mark.parametrize("name", sorted({*METHODS, "grsnn", "sab"}))
def test_every_method_has_its_papers(name: str) -> None:
    *papers, platform = snn.citation(name).splitlines()
    for paper, (author, year) in zip(papers, PAPERS[name], strict=True):
        assert paper.startswith(author)
        assert re.findall(r"(\d{4})\.$", paper) == [year]
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
