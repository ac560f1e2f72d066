"""Progress where stderr is no terminal: one line as a task ends, however often it says so."""

import pytest

from neucodex_lava.progress import progress_bars


def test_a_task_that_ends_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        for done in (0, 1, 2, 2, 2):
            progress("first", done, 2)
        progress("second", 1, 1)
        progress("first", 1, 2)
        progress("first", 2, 2)
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.split("\n") == ["first: 2/2 done", "second: 1/1 done", "first: 2/2 done", ""]
