"""What a journal brings back, and what it refuses to."""

from __future__ import annotations

from typing import Any

from mesafs.checkout.nodes import Node

Desk = Any


def all_nodes(node: Node) -> list[Node]:
    return [node, *(n for child in (node.children or {}).values() for n in all_nodes(child))]


def test_every_node_is_found_by_its_number_after_a_rename_over_a_published_file_and_death(
    desk: Desk,
) -> None:
    desk.write(b"a", b"1")
    desk.write(b"b", b"2")
    desk.publish_all()
    desk.rename(b"a", b"b")

    desk.die()

    assert desk.files() == {b"b": b"1"}
    for node in all_nodes(desk.checkout.root):
        assert desk.checkout.inodes.get(node.ino) is node
