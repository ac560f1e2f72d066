"""Which server is asked, how often, and when it is left alone."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from scripted_server import scripted_server

from host_bridge import EdgeClient, serving
from host_bridge.client import Channels
from host_bridge.client.connector import Connector
from host_bridge.client.faults import Setback, refused
from host_bridge.client.targets import BREAKS_AFTER
from host_bridge.handshake import Open
from host_bridge.server.limits import Limits
from neucodex_lava.errors import BridgeError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def connector(tail, targets, timeout_s=2.0):
    hello = Open(tail.model, tail.code_shape, 1, tail.t_max, {})
    return Connector(targets, hello, Channels(), timeout_s)


def test_breaker_opens_after_failures_in_a_row_and_closes_when_the_server_is_back(
    make_tail, monkeypatch
):
    monkeypatch.setattr("host_bridge.client.targets.LEFT_ALONE_S", 1.0)
    tail, port = make_tail(), free_port()
    one = connector(tail, [f"127.0.0.1:{port}"])
    asked = []
    real = one._open
    monkeypatch.setattr(
        one, "_open", lambda target: (asked.append(time.monotonic()), real(target))[1]
    )
    for _ in range(BREAKS_AFTER + 5):
        with pytest.raises(Setback) as caught:
            one._try_each()
    assert "refused" in caught.value.error.message, "what was wrong last is still told"
    assert len(asked) == BREAKS_AFTER, "then it is left alone"
    with scripted_server(tail, port=port) as (_, streams):
        with pytest.raises(Setback):
            one._try_each()
        assert streams == [], "nobody is asked while the breaker is open"
        one.start()
        began = time.monotonic()
        found = one.result(10.0)
        assert found is not None
        assert time.monotonic() - began < 5.0
        found.stream.abandon()
        # Closed again: the next failure is only the first of a new row.
        assert one.targets._breakers[f"127.0.0.1:{port}"].fail_counter == 0
    one.stop()


def test_connecting_goes_on_in_the_background_until_it_is_stopped(make_tail):
    tail, port = make_tail(), free_port()
    one = connector(tail, [f"127.0.0.1:{port}"])
    one.start()
    assert one.result(0.2) is None
    with scripted_server(tail, port=port):
        found = one.result(10.0)
        assert found is not None
        found.stream.abandon()
    one.start()
    assert one.result(0.05) is None
    began = time.monotonic()
    one.stop()
    assert time.monotonic() - began < 2.0


def test_a_server_that_is_told_to_wait_for_is_not_asked_before(make_tail):
    tail = make_tail()
    with scripted_server(tail) as (address, streams):
        one = connector(tail, [address])
        one.targets.avoid(address, 0.3)
        with pytest.raises(Setback) as caught:
            one._try_each()
        assert 0.0 < caught.value.retry_after_s <= 0.3
        assert streams == []
        began = time.monotonic()
        one.start()
        found = one.result(5.0)
        assert found is not None
        assert time.monotonic() - began > 0.2
        found.stream.abandon()
        one.stop()


def test_a_full_server_is_asked_for_as_long_as_patience_lasts(make_tail):
    """More often than a breaker lets a server fail, and for longer than one that is not there."""
    tail = make_tail()
    limits = Limits(max_sessions=1, retry_after_ms=200)
    with serving(tail, limits=limits) as address:
        held = connector(tail, [address])
        first = held.connect(1.0)
        one = connector(tail, [address])
        asked = []
        real = one._open
        one._open = lambda target: (asked.append(target), real(target))[1]
        leave = threading.Timer(2.5, first.stream.abandon)
        leave.start()
        began = time.monotonic()
        one.connect(20.0).stream.abandon()
        assert time.monotonic() - began > 1.5
        assert len(asked) > BREAKS_AFTER
        leave.join()


def test_a_full_server_is_not_waited_for_by_who_can_do_without(make_tail):
    tail = make_tail()
    with serving(tail, limits=Limits(max_sessions=1, retry_after_ms=100)) as address:
        held = connector(tail, [address])
        first = held.connect(1.0)
        client = EdgeClient(
            address,
            model=tail.model,
            code_shape=tail.code_shape,
            t_max=tail.t_max,
            patience_s=float("inf"),
        )
        began = time.monotonic()
        client.open(required=False)
        assert time.monotonic() - began < 5
        assert not client.connected
        client.close()
        first.stream.abandon()


def test_every_try_has_an_epoch_of_its_own_and_a_new_number_after_the_last(make_tail):
    tail = make_tail()
    with scripted_server(tail) as (address, streams):
        one = connector(tail, [address])
        one._epoch = 0xFFFE
        for _ in range(2):
            one._try_each().stream.abandon()
        one.stop()
    (first,), (second,) = (stream.seen for stream in streams)
    assert (first.epoch, second.epoch) == (0xFFFF, 0)
    assert first.session != second.session


def test_sessions_spread_over_the_ring_and_those_of_a_dead_server_over_the_rest(make_tail):
    targets = [f"127.0.0.1:{port}" for port in (1001, 1002, 1003)]
    orders = [tuple(connector(make_tail(), targets).targets.order) for _ in range(300)]
    assert all(sorted(order) == targets for order in orders)
    for first in targets:
        share = [order for order in orders if order[0] == first]
        assert 50 < len(share) < 150, "about a third each"
        assert {order[1] for order in share} == set(targets) - {first}


@pytest.mark.parametrize("status", ["UNAVAILABLE", "DATA_LOSS", "ABORTED", "INTERNAL", "UNKNOWN"])
def test_what_another_try_may_mend_is_a_setback(status):
    assert isinstance(refused(BridgeError("no", status=status)), Setback)
