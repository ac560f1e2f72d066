"""Side readouts in an IntegerNet: what crosses a cut, legal cuts, edge parts, segments of a cascade."""

from dataclasses import replace

import numpy as np
import pytest
from exit_nets import exit_net

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import Connection, IntegerNet


def dense(source: str, rows: int, columns: int) -> Connection:
    return Connection(source, "dense", np.full((rows, columns), 2))


def names(net: IntegerNet) -> list[str]:
    return [node.name for node in net.nodes]


def test_structure() -> None:
    net, _ = exit_net(0)
    assert names(net) == ["stem", "exit_sp1", "mid", "join", "exit_sp2", "late", "readout"]
    assert [head.name for head in net.exit_heads] == ["exit_sp1", "exit_sp2"]
    assert net.last.name == net.output == "readout"
    assert net.ends_in_readout
    # stem feeds mid and join; a head may stay behind a cut or before it.
    assert net.legal_cuts() == [0, 1, 2, 4, 5, 6, 7]
    crosses = {cut: net.with_cut(cut).output for cut in net.legal_cuts()}
    assert crosses == {
        0: "input", 1: "stem", 2: "stem", 4: "join", 5: "join", 6: "late", 7: "readout",
    }  # fmt: skip
    for cut in (2, 5):
        assert net.with_cut(cut).code_shape == net.with_cut(cut - 1).code_shape
    with pytest.raises(NetError, match="cannot be cut at 3"):
        net.with_cut(3)


def test_an_edge_part_ends_where_it_was_cut() -> None:
    net, _ = exit_net(0)
    edge = net.with_cut(5).edge_part()
    assert names(edge) == ["stem", "exit_sp1", "mid", "join", "exit_sp2"]
    assert edge.last.name == edge.output == "join"
    assert not edge.ends_in_readout
    assert [head.name for head in edge.exit_heads] == ["exit_sp1", "exit_sp2"]
    assert edge != replace(edge, end="exit_sp2")
    # An edge part whose end is its last node is what it always was.
    whole = net.edge_part()
    assert whole == net
    assert whole.end == ""
    assert not net.with_cut(2).is_chain
    assert not net.with_cut(2).edge_part().is_chain
    assert net.with_cut(1).is_chain


def test_an_end_that_is_none() -> None:
    net, _ = exit_net(0)
    with pytest.raises(NetError, match="end 'nowhere' is none"):
        replace(net, end="nowhere")
    with pytest.raises(NetError, match="'late' lies behind the network's end 'join'"):
        replace(net, end="join")


def test_segments() -> None:
    net, _ = exit_net(0)
    first, second, last = net.with_cut(2).segments()
    assert names(first) == ["stem", "exit_sp1"]
    assert names(second) == ["mid", "join", "exit_sp2"]
    assert names(last) == ["late", "readout"]
    assert (first.output, second.output, last.output) == ("stem", "join", "readout")
    assert first.input_shape == net.input_shape
    assert second.input_shape == first.code_shape
    assert last.input_shape == second.code_shape
    assert [part.cut for part in (first, second, last)] == [2, 3, 2]
    assert {c.source for c in second.node("join").connections} == {"mid", "input"}
    assert [part.input_bits for part in (first, second, last)] == [net.input_bits, 1, 1]
    assert [len(part.exit_heads) for part in (first, second, last)] == [1, 1, 0]
    # The cascade of an edge part ends with its last head.
    assert [names(p) for p in net.with_cut(5).edge_part().segments()] == [
        names(first), names(second),
    ]  # fmt: skip


def test_a_net_without_heads_is_one_segment() -> None:
    net, _ = exit_net(0)
    bare = net.with_cut(1).edge_part()
    assert bare.segments() == [bare]


@pytest.mark.parametrize("sources", [("mid",), ("input",), ("stem", "join"), ("stem",)])
def test_heads_that_make_no_segment(sources: tuple[str, ...]) -> None:
    net, _ = exit_net(0)
    links = tuple(dense(s, 5, int(np.prod(net.shape_of(s)))) for s in sources)
    wrong = replace(net.node("exit_sp2"), connections=links, sum_bound=1000)
    with pytest.raises(NetError, match="exit head 'exit_sp2' makes no segment"):
        net.with_nodes(wrong).segments()
