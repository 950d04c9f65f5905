"""Networks that are loaded draw no first weights, and have all else that a new one has."""

from __future__ import annotations

import torch
from torch import nn

from audiotok.codecs.checkpoint import load
from audiotok.nn.skip_init import SkipInit


class Network(nn.Module):
    """A network with one of each kind of what can be set when it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(300, 400)
        self.weight = nn.Parameter(torch.empty(3))
        nn.init.normal_(self.weight, std=0.1)
        self.register_buffer("entries", torch.empty(5).normal_(generator=seeded()))
        self.register_buffer("table", nn.init.uniform_(torch.empty(7)), persistent=False)
        self.register_buffer("window", torch.hann_window(9), persistent=False)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_parameters_are_not_drawn_and_buffers_are():
    torch.manual_seed(0)
    table = torch.rand(7)
    torch.manual_seed(0)
    with SkipInit():
        network = Network()
    buffers = dict(network.named_buffers())
    assert torch.equal(buffers["table"], table), "the first numbers that are drawn"
    assert torch.equal(buffers["entries"], torch.empty(5).normal_(generator=seeded()))
    assert torch.equal(buffers["window"], torch.hann_window(9))


def test_what_is_loaded_is_whole():
    network = Network()
    with SkipInit():
        other = Network()
    other.load_state_dict(network.state_dict())
    x = torch.randn(2, 300)
    assert torch.equal(network.linear(x), other.linear(x))
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_the_random_numbers_of_a_program_go_on_as_if_nothing_was_built():
    """Also where what is unset is drawn again until it lies in bounds."""
    torch.manual_seed(0)
    numbers = torch.rand(7)
    torch.manual_seed(0)
    with SkipInit():
        Network()
        nn.init.trunc_normal_(nn.Parameter(torch.full((9,), 5.0)))
    assert torch.equal(torch.rand(7), numbers)
    torch.manual_seed(0)
    load("speech")
    assert torch.equal(torch.rand(7), numbers)


def test_outside_all_is_drawn():
    with SkipInit():
        pass
    assert nn.Linear(300, 400).weight.std() > 0.01
