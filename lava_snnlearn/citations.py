"""Papers behind the methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lava_snnlearn.checks import known_name

_PAPERS: Mapping[str, str] = {
    "werbos1990": (
        "P. J. Werbos. Backpropagation through time: what it does and how to do it. "
        "Proceedings of the IEEE 78(10), 1550-1560, 1990."
    ),
    "neftci2019": (
        "E. O. Neftci, H. Mostafa, F. Zenke. Surrogate gradient learning in spiking neural networks. "
        "IEEE Signal Processing Magazine 36(6), 51-63, 2019."
    ),
    "xiao2022": (
        "M. Xiao, Q. Meng, Z. Zhang, D. He, Z. Lin. Online training through time for spiking neural networks. "
        "Advances in Neural Information Processing Systems 35, 2022."
    ),
    "meng2023": (
        "Q. Meng, M. Xiao, S. Yan, Y. Wang, Z. Lin, Z.-Q. Luo. Towards memory- and time-efficient backpropagation for training "
        "spiking neural networks. IEEE/CVF International Conference on Computer Vision, 2023."
    ),
    "meng2022": (
        "Q. Meng, M. Xiao, S. Yan, Y. Wang, Z. Lin, Z.-Q. Luo. Training high-performance low-latency spiking neural networks "
        "by differentiation on spike representation. IEEE/CVF Conference on Computer Vision and Pattern Recognition, 2022."
    ),
    "yu2024": (
        "C. Yu, L. Liu, G. Wang, E. Li, A. Wang. Advancing training efficiency of deep spiking neural networks through "
        "rate-based backpropagation. Advances in Neural Information Processing Systems 37, 2024."
    ),
    "xiao2021": (
        "M. Xiao, Q. Meng, Z. Zhang, Y. Wang, Z. Lin. Training feedback spiking neural networks by implicit differentiation on "
        "the equilibrium state. Advances in Neural Information Processing Systems 34, 2021."
    ),
    "xiao2023": (
        "M. Xiao, Q. Meng, Z. Zhang, Y. Wang, Z. Lin. SPIDE: a purely spike-based method for training feedback spiking neural "
        "networks. Neural Networks 161, 9-24, 2023."
    ),
    "scellier2017": (
        "B. Scellier, Y. Bengio. Equilibrium propagation: bridging the gap between energy-based models and backpropagation. "
        "Frontiers in Computational Neuroscience 11, 24, 2017."
    ),
    "ernoult2019": (
        "M. Ernoult, J. Grollier, D. Querlioz, Y. Bengio, B. Scellier. Updates of equilibrium prop match gradients of backprop "
        "through time in an RNN with static input. Advances in Neural Information Processing Systems 32, 2019."
    ),
    "xiao2024": (
        "M. Xiao, Q. Meng, Z. Zhang, D. He, Z. Lin. Hebbian learning based orthogonal projection for continual learning of "
        "spiking neural networks. International Conference on Learning Representations, 2024."
    ),
    "saha2021": (
        "G. Saha, I. Garg, K. Roy. Gradient projection memory for continual learning. "
        "International Conference on Learning Representations, 2021."
    ),
    "xiao2024opzo": (
        "M. Xiao, Q. Meng, Z. Zhang, D. He, Z. Lin. Online pseudo-zeroth-order training of neuromorphic spiking neural "
        "networks. arXiv:2407.12516, 2024."
    ),
    "xiao2024grsnn": (
        "M. Xiao, Y. Zhu, D. He, Z.-Q. Luo. Temporal spiking neural networks with synaptic delay for graph reasoning. "
        "International Conference on Machine Learning, 2024."
    ),
    "sun2019": (
        "Z. Sun, Z.-H. Deng, J.-Y. Nie, J. Tang. RotatE: knowledge graph embedding by relational rotation in complex space. "
        "International Conference on Learning Representations, 2019."
    ),
    "nokland2016": (
        "A. Nøkland. Direct feedback alignment provides learning in deep neural networks. "
        "Advances in Neural Information Processing Systems 29, 2016."
    ),
    "lillicrap2016": (
        "T. P. Lillicrap, D. Cownden, D. B. Tweed, C. J. Akerman. Random synaptic feedback weights support error "
        "backpropagation for deep learning. Nature Communications 7, 13276, 2016."
    ),
    "liao2016": (
        "Q. Liao, J. Z. Leibo, T. Poggio. How important is weight symmetry in backpropagation? "
        "AAAI Conference on Artificial Intelligence, 2016."
    ),
    "gruslys2016": (
        "A. Gruslys, R. Munos, I. Danihelka, M. Lanctot, A. Graves. Memory-efficient backpropagation through time. "
        "Advances in Neural Information Processing Systems 29, 2016."
    ),
    "ke2018": (
        "N. R. Ke, A. Goyal, O. Bilaniuk, J. Binas, M. C. Mozer, C. Pal, Y. Bengio. Sparse attentive backtracking: temporal "
        "credit assignment through reminding. Advances in Neural Information Processing Systems 31, 2018."
    ),
    "qiao2019": (
        "S. Qiao, H. Wang, C. Liu, W. Shen, A. Yuille. Micro-batch training with batch-channel normalization and "
        "weight standardization. arXiv:1903.10520, 2019."
    ),
    "davies2018": (
        "M. Davies et al. Loihi: a neuromorphic manycore processor with on-chip learning. IEEE Micro 38(1), 82-99, 2018."
    ),
}
_CITED: Mapping[str, tuple[str, ...]] = {
    "bptt": ("werbos1990", "neftci2019", "gruslys2016"),
    "dfa": ("nokland2016", "xiao2022"),
    "dsr": ("meng2022",),
    "ep": ("ernoult2019", "scellier2017"),
    "fa": ("lillicrap2016", "liao2016", "xiao2022"),
    "gpm": ("saha2021",),
    "grsnn": ("xiao2024grsnn", "sun2019"),
    "hlop": ("xiao2024",),
    "ide": ("xiao2021",),
    "opzo": ("xiao2024opzo", "xiao2022"),
    "ottt": ("xiao2022", "qiao2019"),
    "rate_bp": ("yu2024",),
    "sab": ("ke2018",),
    "sltt": ("meng2023",),
    "spide": ("xiao2023", "xiao2021"),
}
_PLATFORM = ("davies2018",)


def citation(method: Any) -> str:
    """The papers to cite for a method: its name ("ottt") or an instance; one reference a line, the chip's paper last.

    Raises:
        UnknownNameError: a name that is no method of the library.
    """
    name = method if isinstance(method, str) else getattr(method, "name", type(method).__name__)
    keys = _CITED[known_name("method", name, _CITED)]
    return "\n".join(_PAPERS[key] for key in (*keys, *_PLATFORM))
