"""The sizes of a convolution; every family of convolutions and pooling has one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from host.lower.program import Shape


@dataclass(frozen=True)
class ConvShape:
    """Sizes of a convolution of one sample."""

    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int = 1

    @property
    def out_height(self) -> int:
        return (self.height + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        return (self.width + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def bordered(self) -> tuple[int, int]:
        """Height and width of the picture with its border."""
        return self.height + 2 * self.padding[0], self.width + 2 * self.padding[1]

    @property
    def walked(self) -> ConvShape:
        """The same convolution with its pixels in one line, where each is by itself."""
        if (self.kernel, self.stride, self.padding) != ((1, 1), (1, 1), (0, 0)):
            return self
        return replace(self, height=1, width=self.height * self.width)

    @property
    def out_shape(self) -> Shape:
        return (1, self.out_height, self.out_width, self.out_channels)
