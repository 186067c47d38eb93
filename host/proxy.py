"""What compression does to a network's logits, untrained and without a program: cheap."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from host.compress.candidate import CALIBRATION_IMAGES
from host.compress.finetune import evaluating
from host.evaluate import Subject
from host.exam import Exam
from host.marking import Floats, expected_right, margins
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


@dataclass
class ExpectedLoss:
    """The share of validation images that candidates are expected to lose (host.marking).

    Of the first `images`, or of all; a policy is not remembered.
    """

    subject: Subject
    images: int | None = None

    def __call__(self, policy: Policy) -> float:
        """Return what is lost; less than 0 where more would be right."""
        compressed = self._margins(self.subject.compressed(policy))
        before, after = (expected_right(self._whole, m) for m in (self._whole, compressed))
        return (before - after) / len(compressed)

    @cached_property
    def _exam(self) -> Exam:
        return Exam.of(self.subject.data, self.images)

    @cached_property
    def _whole(self) -> Floats:
        return self._margins(self.subject.network)

    def _margins(self, network: nn.Module) -> Floats:
        exam, found = self._exam, list[Floats]()
        with evaluating(network), torch.inference_mode():
            for number in range(len(exam.sizes)):
                x, labels = exam.batch(number)
                found.append(margins(network(x).numpy(), labels))
        return np.concatenate(found)
