"""What compression does to a network's logits on calibration images: cheap, and knows no labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from host.compress.candidate import CALIBRATION_IMAGES
from host.evaluate import Subject
from host.policy import Policy

_BATCH = 64


@dataclass
class LogitError:
    """Mean squared error between the logits of the network and of its compressed candidates.

    Candidates are calibrated, not trained; the images are those that calibrate them. The same
    policy gives the same error, and is compressed once.
    """

    subject: Subject
    known: dict[str, float] = field(default_factory=dict)

    def __call__(self, policy: Policy) -> float:
        """Return the mean over images and classes, in squared logits."""
        name = policy.digest()
        if name not in self.known:
            candidate = self.subject.compressed(policy)
            self.known[name] = float((self._logits(candidate) - self._whole).square().mean())
        return self.known[name]

    @cached_property
    def _images(self) -> Tensor:
        return self.subject.data.calibration(CALIBRATION_IMAGES)

    @cached_property
    def _whole(self) -> Tensor:
        return self._logits(self.subject.network)

    def _logits(self, network: nn.Module) -> Tensor:
        with torch.inference_mode():
            return torch.cat([network.eval()(x) for x in torch.split(self._images, _BATCH)])
