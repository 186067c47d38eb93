"""Networks that are trained between the stages of a search; kept in its run, by what they keep.

A network that lost channels and weights is kept as the whole one with zeros in their places: the
same layers, groups and policies fit it, and pruning it the same way gives the trained one back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from hil_lab.runs import NETWORK, STAGES
from hil_lab.tuning import tune
from hil_lab.workbench import Workbench, save_network
from host.compress.channels import spread
from host.compress.prune import kept_channels
from host.evaluate import Evaluator, Subject
from host.policy import Policy
from host.search.loop import Evaluate
from host.search.strategy import Staged
from host.types import Evaluation


@dataclass
class Stages:
    """The subjects that candidates start from: the run's own, and those trained on the way."""

    bench: Workbench
    known: dict[str, Subject] = field(default_factory=dict)

    def of(self, policy: Policy) -> Subject:
        """Return what a policy starts from: a trained network that is pruned alike, if any."""
        trained = self._path(policy).is_file()
        return self.trained(policy) if trained else self.bench.subject

    def trained(self, start: Policy) -> Subject:
        """Return the subject with the trained network of a policy, training it the first time."""
        name = start.pruning_digest()
        if name not in self.known:
            path = self._path(start)
            if not path.is_file():
                save_network(self._train(start), path)
            network = copy.deepcopy(self.bench.subject.network)
            network.load_state_dict(load_file(path))
            self.known[name] = replace(self.bench.subject, network=network.eval())
        return self.known[name]

    def _path(self, policy: Policy) -> Path:
        return self.bench.run.path(STAGES, policy.pruning_digest(), NETWORK)

    def _train(self, start: Policy) -> nn.Module:
        subject, tuning = self.bench.subject, self.bench.recipe.finetune
        small = subject.compressed(start)
        if tuning.stage_epochs:
            epochs, lr, warmup = tuning.stage_epochs, tuning.stage_lr, tuning.stage_warmup
            tune(self.bench, small, start, epochs, lr, "between stages", warmup=warmup)
        plan = subject.plan_of(start)
        removed = plan.removed(kept_channels(subject.network, start, plan))
        return spread(small, subject.network, removed)


@dataclass
class StagedEvaluator:
    """Scores every policy from the network that its strategy's stage starts from."""

    strategy: Staged
    stages: Stages
    given: Evaluator
    later: dict[str, Evaluator] = field(default_factory=dict)

    def __call__(self, policy: Policy) -> Evaluation:
        """Return the evaluation of the policy that was asked last."""
        return self._evaluate()(policy)

    def _evaluate(self) -> Evaluate:
        start = self.strategy.start
        if start is None:
            return self.given
        name = start.pruning_digest()
        if name not in self.later:
            subject = self.stages.trained(start)
            self.later[name] = replace(self.given, subject=subject, known={})
        return self.later[name]
