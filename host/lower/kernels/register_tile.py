"""How many pixels and channels of a float product stay in registers: a small cost model.

One step of the reduction loads `vectors` weights and one input per pixel, and multiplies each with
each. The tile is the one with most products per cycle among those that fit the registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from host.lower.targets import Target

# Cycles of a step that hide behind nothing: the loop's own count and branch.
LOOP_CYCLES = 1.1
# Registers that hold inputs while they are multiplied.
INPUT_REGISTERS = 2
WIDEST_VECTORS = 16


@dataclass(frozen=True, slots=True)
class RegisterTile:
    """Accumulators of `pixels` x `channels` float32."""

    pixels: int
    channels: int


def register_tile(pixels: int, channels: int, target: Target) -> RegisterTile:
    """Return the tile for rows of `pixels` and this many channels.

    Pixels divide the row. Channels are padded to the narrowest tile only: a wider one must divide
    them, so that it computes nothing more.
    """
    return max(_tiles(pixels, channels, target), key=lambda tile: _merit(tile, target))


def covering_tile(pixels: int, channels: int, target: Target) -> RegisterTile:
    """Return the tile that covers rows of `pixels` and this many channels in fewest cycles.

    Neither needs to be whole tiles: pixels overlap at the end, channels are padded.
    """
    vectors = -(-channels // target.fp32_lanes)
    tiles = [
        tile
        for width in range(1, min(vectors, WIDEST_VECTORS) + 1)
        for row in range(1, pixels + 1)
        if _registers(tile := RegisterTile(row, width * target.fp32_lanes), target)
    ]

    def cycles(tile: RegisterTile) -> tuple[float, int]:
        times = -(-pixels // tile.pixels) * -(-channels // tile.channels)
        loads = tile.pixels + _vectors(tile.channels, target)
        return times * _cycles(tile, target), loads * times

    return min(tiles, key=cycles)


@dataclass(frozen=True, slots=True)
class PictureTile:
    """Accumulators of `lines` x `columns` pixels x `channels` float32."""

    lines: int
    columns: int
    channels: int


def picture_tile(height: int, width: int, channels: int, target: Target) -> PictureTile:
    """Return the tile that covers a picture in fewest cycles; it spans lines only as wholes."""

    def cycles(tile: PictureTile) -> tuple[float, int]:
        flat = RegisterTile(tile.lines * tile.columns, tile.channels)
        times = -(-height // tile.lines) * -(-width // tile.columns)
        times *= -(-channels // tile.channels)
        loads = flat.pixels + _vectors(flat.channels, target)
        return times * _cycles(flat, target), loads * times

    return min(_picture_tiles(height, width, channels, target), key=cycles)


def _picture_tiles(height: int, width: int, channels: int, target: Target) -> Iterator[PictureTile]:
    vectors = -(-channels // target.fp32_lanes)
    shapes = [(1, columns) for columns in range(1, width + 1)]
    shapes += [(lines, width) for lines in range(2, height + 1)]
    for vector in range(1, min(vectors, WIDEST_VECTORS) + 1):
        for lines, columns in shapes:
            tile = RegisterTile(lines * columns, vector * target.fp32_lanes)
            if not _registers(tile, target):
                break
            yield PictureTile(lines, columns, tile.channels)


def _tiles(pixels: int, channels: int, target: Target) -> Iterator[RegisterTile]:
    narrow = min(target.tile_channels, 1 << (channels - 1).bit_length())
    widths = [narrow]
    while channels % (2 * widths[-1]) == 0 and _vectors(widths[-1], target) < WIDEST_VECTORS:
        widths.append(2 * widths[-1])
    for width in widths:
        for row in range(1, pixels + 1):
            tile = RegisterTile(row, width)
            if pixels % row == 0 and (row == 1 or _registers(tile, target)):
                yield tile


def _vectors(channels: int, target: Target) -> int:
    return max(1, channels // target.fp32_lanes)


def _registers(tile: RegisterTile, target: Target) -> bool:
    vectors = _vectors(tile.channels, target)
    needed = tile.pixels * vectors + vectors + INPUT_REGISTERS
    return needed <= target.vector_registers


def _merit(tile: RegisterTile, target: Target) -> tuple[float, int]:
    """Return products per cycle, then how few loads a step takes."""
    vectors = _vectors(tile.channels, target)
    return tile.pixels * vectors / _cycles(tile, target), -(tile.pixels + vectors)


def _cycles(tile: RegisterTile, target: Target) -> float:
    """Return the cycles of a step."""
    vectors = _vectors(tile.channels, target)
    products, loads = tile.pixels * vectors, tile.pixels + vectors
    issue = max(products, loads) / target.fma_per_cycle
    return max(issue, target.fma_latency) + LOOP_CYCLES
