"""Every codec over a real socket: the tail sees the codes that the edge had, in fewer bytes."""

from __future__ import annotations

import numpy as np
import pytest

from host_bridge import EdgeClient, serving
from host_bridge.codecs import CHOICES, Tables, TableTraining, packed_bits
from neucodex_lava.errors import BridgeError

SHAPE = (8, 16, 16)
MODEL = "c0" * 32


class WitnessTail:
    """Answers with sums that tell codes apart, and from one timestep to the next."""

    model = MODEL
    code_shape = SHAPE
    code_bits = 1
    classes = 2
    t_max = 3
    gain = 1.0

    def __init__(self, coding: Tables | None) -> None:
        self.coding = coding

    def new_state(self) -> np.ndarray:
        return np.zeros(2, np.int64)

    def step(self, state: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = state + witness(code)
        return sums, sums


def witness(code: np.ndarray) -> np.ndarray:
    flat = code.reshape(-1).astype(np.int64)
    return np.array([flat.sum(), (flat * (np.arange(flat.size) * 7919 % 8191)).sum() % 1_000_003])


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    draw = np.random.default_rng(0)
    rates = draw.beta(2, 18, SHAPE[0])[:, None, None]
    return (draw.random((12, 3, *SHAPE)) < rates).astype(np.uint8)


@pytest.fixture(scope="module")
def tables(codes: np.ndarray) -> Tables:
    training = TableTraining(SHAPE)
    for sample in codes:
        training.add(sample)
    return training.tables()


def test_the_tail_sees_the_edges_codes_whatever_the_codec(
    codes: np.ndarray, tables: Tables
) -> None:
    sent: dict[str, int] = {}
    with serving(WitnessTail(tables)) as address:
        for codec in CHOICES:
            with EdgeClient(
                address, model=MODEL, code_shape=SHAPE, t_max=3, coding=tables, codec=codec
            ) as client:
                sent[codec] = 0
                for sample in codes[:4]:
                    client.start_sample()
                    expected = np.zeros(2, np.int64)
                    for code in sample:
                        expected = expected + witness(code)
                        reply = client.step(code)
                        assert reply.sums.tolist() == expected.tolist()
                        sent[codec] += reply.payload_bits
                    client.end_sample()
    assert sent["packed"] == 4 * 3 * packed_bits(SHAPE)
    assert sent["auto"] <= 1.01 * min(sent.values())
    assert sent["auto"] < 0.6 * sent["packed"]


def test_an_edge_with_other_tables_or_a_server_without_is_told_when_the_session_opens(
    tables: Tables,
) -> None:
    for served in (None, Tables(tables.counts)):
        with serving(WitnessTail(served)) as address:
            client = EdgeClient(
                address, model=MODEL, code_shape=SHAPE, t_max=3, coding=tables, codec="ans"
            )
            with pytest.raises(BridgeError, match="coding tables") as raised, client:
                pass
            assert raised.value.status == "FAILED_PRECONDITION"
