"""neucodex certs: files that a server and an edge take as they are."""

import json
import shlex
from pathlib import Path

import pytest

from neucodex_lava.cli.main import parse, run


def test_what_it_prints_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    assert run(["certs", str(folder), "--host", "example.org", "10.0.0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["server_key"]).stat().st_mode & 0o077 == 0
    assert {path.name for path in folder.iterdir()} == {
        *("ca.crt", "ca.key", "server.crt", "server.key", "server.tokens"),
        *("client.crt", "client.key", "client.token"),
    }
    served = parse(["serve", "BUNDLE", *shlex.split(found["server_options"])]).security()
    assert served.protects
    asked = parse(["infer", "BUNDLE", *shlex.split(found["edge_options"])]).security()
    name = served.authorise(asked.metadata(), {})
    assert name == "edge"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.key").write_text("mine")
    assert run(["certs", str(tmp_path)]) == 2
    assert "server.key exists and is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "server.key").read_text() == "mine"


def test_a_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NEUCODEX_TOKEN", raising=False)
    assert parse(["infer", "BUNDLE"]).security() is None
    monkeypatch.setenv("NEUCODEX_TOKEN", "0123456789abcdef")
    security = parse(["infer", "BUNDLE"]).security()
    assert security is not None
    assert security.metadata() == (("authorization", "Bearer 0123456789abcdef"),)
    file = tmp_path / "token"
    file.write_text("fedcba9876543210\n")
    file.chmod(0o600)
    args = ["infer", "BUNDLE", "--token-file", str(file)]
    assert parse(args).security().token == "fedcba9876543210"
    file.chmod(0o644)
    bundle = str(tmp_path)
    assert run(["infer", bundle, "--token-file", str(file)]) == 2
    assert "open to everyone on this machine" in capsys.readouterr().err
