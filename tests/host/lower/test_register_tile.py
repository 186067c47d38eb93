"""Tiles of float kernels: legal for every shape, and the ones that the hand would choose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.lower.kernels.register_tile import RegisterTile, covering_tile, register_tile
from host.lower.targets import TARGETS


@given(st.integers(1, 256), st.integers(1, 2048), st.sampled_from(sorted(TARGETS)))
def test_a_tile_divides_its_row_and_pads_no_more_than_the_narrowest(
    pixels: int, channels: int, name: str
) -> None:
    target = TARGETS[name]()
    tile = register_tile(pixels, channels, target)
    assert pixels % tile.pixels == 0
    narrow = min(target.tile_channels, 1 << (channels - 1).bit_length())
    padded = -(-channels // narrow) * narrow
    assert -(-channels // tile.channels) * tile.channels == padded
    vectors = max(1, tile.channels // target.fp32_lanes)
    assert tile.pixels == 1 or tile.pixels * vectors + vectors < target.vector_registers


@pytest.mark.parametrize(
    ("pixels", "channels", "expected"),
    [
        (32, 64, RegisterTile(4, 16)),  # sixteen sums, the fewest loads
        (4, 512, RegisterTile(4, 16)),  # a narrow picture takes wider channels
        (65, 192, RegisterTile(13, 8)),  # tokens with a class token
    ],
)
def test_tiles_on_the_cortex_a72(pixels: int, channels: int, expected: RegisterTile) -> None:
    assert register_tile(pixels, channels, TARGETS["cortex-a72"]()) == expected


@given(st.integers(1, 256), st.integers(1, 2048), st.sampled_from(sorted(TARGETS)))
def test_a_covering_tile_fits_the_registers_and_wastes_less_than_a_tile(
    pixels: int, channels: int, name: str
) -> None:
    target = TARGETS[name]()
    tile = covering_tile(pixels, channels, target)
    vectors = tile.channels // target.fp32_lanes
    assert tile.channels % target.fp32_lanes == 0
    assert tile.pixels <= pixels
    assert (vectors - 1) * target.fp32_lanes < channels
    assert tile.pixels * vectors + vectors < target.vector_registers
