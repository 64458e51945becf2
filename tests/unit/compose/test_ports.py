"""Ports: choosing, remembering, and naming who holds a taken one."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.local.errors import PortsTaken
from compose.local.ports import chosen_ports, forget_ports, free_port, is_free, require_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_free_port_can_be_bound_and_a_taken_one_is_not_free(taken: int) -> None:
    assert is_free(free_port())
    assert not is_free(taken)


def test_a_zero_takes_a_free_port_and_keeps_it(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = chosen_ports({"A": 0, "B": 0, "C": 4242}, memory)
    assert first["C"] == 4242
    assert len(set(first.values())) == 3
    assert chosen_ports({"A": 0, "B": 0, "C": 4242}, memory) == first


def test_asking_for_fewer_ports_forgets_none(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = chosen_ports({"A": 0, "B": 0}, memory)
    assert chosen_ports({"A": 0}, memory) == {"A": first["A"]}
    assert chosen_ports({"A": 0, "B": 0}, memory) == first


def test_a_forgotten_port_is_chosen_anew(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = chosen_ports({"A": 0, "B": 0}, memory)
    forget_ports(["A"], memory)
    second = chosen_ports({"A": 0, "B": 0}, memory)
    assert second["B"] == first["B"]


@pytest.mark.feature("G3")
def test_a_taken_port_is_named_with_its_holder_and_its_setting(taken: int) -> None:
    with pytest.raises(PortsTaken) as caught:
        require_free({"MCP_GATEWAY_PORT": taken, "MCP_HUB_PORT": free_port()})
    said = str(caught.value)
    assert f"port {taken} (MCP_GATEWAY_PORT) is taken by" in said
    assert f"pid {os.getpid()}" in said
    assert "set MCP_GATEWAY_PORT to another port" in said
    assert "MCP_HUB_PORT" not in said


def test_a_damaged_memory_is_no_memory(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    memory.write_text("[1")
    assert set(chosen_ports({"A": 0}, memory)) == {"A"}
