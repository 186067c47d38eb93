"""The parts of an experiment, each made on first use and kept in its run: no board, no search."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hil_lab.console import Reporter
from hil_lab.recipe import Recipe
from hil_lab.runs import LOOSE, NOISE, Run
from host.compress.finetune import Training
from host.compress.patterns import MAGNITUDE
from host.compress.variational import HALVINGS, NoiseLearning, bearable, learn_noise
from host.data import Data, load_data
from host.energy import AcceleratorEnergy, eyeriss
from host.errors import PolicyError, StoreError
from host.evaluate import Subject
from host.graph import trace_with_plan
from host.identity import data_digest, network_digest
from host.lower.importer import import_module
from host.lower.objects import default_cache
from host.lower.targets import refusal
from host.models import load_checkpoint, make_network
from host.policy import Choice, Space
from host.proxy import ExpectedLoss
from host.registry import did_you_mean
from host.sensitivity import influence
from host.sensitivity.fisher import fisher as measure_fisher
from host.sensitivity.measure import measure as measure_sensitivity
from host.sensitivity.residual import Residuals, residuals
from host.sensitivity.table import Kind, SensitivityTable
from host.sensitivity.zeros import IMAGES, input_zeros
from host.train import default_training, train

TRAINED = "network.safetensors"
SENSITIVITY, RESIDUALS = "sensitivity.json", "residuals.json"
# The share of images that loose weights may cost, solved and not yet trained.
BEARABLE = 0.01


def versions() -> dict[str, str]:
    """Return what a result depends on beside its recipe."""
    names = ("hil-lab", "torch", "apache-tvm", "apache-tvm-ffi", "torch-pruning", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


@dataclass
class Workbench:
    """An experiment's parts, made on first use; a leased board makes it complete."""

    run: Run
    reporter: Reporter

    @cached_property
    def recipe(self) -> Recipe:
        """The run's resolved recipe."""
        return self.run.recipe

    @cached_property
    def data(self) -> Data:
        """The data set, normalised for the network."""
        data = load_data(self.recipe.data, self.recipe.data_dir)
        self.run.tie("images", data_digest(data))
        return data

    @cached_property
    def network(self) -> nn.Module:
        """The trained network: the recipe's checkpoint, or trained once and kept in the run."""
        recipe, data = self.recipe, self.data
        network = make_network(
            recipe.model, classes=data.classes, input_shape=data.input_shape, seed=recipe.train.seed
        )
        kept = self.run.path(TRAINED)
        if recipe.checkpoint:
            load_checkpoint(network, Path(recipe.checkpoint).expanduser())
        elif kept.is_file():
            network.load_state_dict(load_file(kept))
        else:
            # What has no kernel is found out before hours of training.
            import_module(network, data.input_shape)
            network = self._train(kept)
        self.run.tie("weights", network_digest(network))
        return network.eval()

    def _train(self, kept: Path) -> nn.Module:
        recipe = self.recipe
        training = default_training(recipe.model, self.data)
        if recipe.train.epochs:
            training = Training(**{**asdict(training), "epochs": recipe.train.epochs})
        per_epoch = len(self.data.train) // min(training.batch_size, len(self.data.train))
        what = f"{recipe.model} on {recipe.data}"
        with self.reporter.progress("train", what, training.epochs) as advance:
            trained = train(
                recipe.model,
                self.data,
                training=training,
                seed=recipe.train.seed,
                on_progress=lambda p: advance(
                    p.step // per_epoch, f"{p.validation:.1%} validation" if p.validation else ""
                ),
            )
            advance(training.epochs, f"{trained.validation:.1%} validation")
        save_network(trained.network, kept)
        self.run.event("trained", validation=trained.validation)
        return trained.network

    @cached_property
    def subject(self) -> Subject:
        """The network with its layers and channel groups."""
        network, shape = self.network, self.data.input_shape
        graph, plan = trace_with_plan(network, self.recipe.model, shape, self.data.classes)
        return Subject(network, graph, plan, self.data, self.recipe.finetune.reconstruction)

    @cached_property
    def space(self) -> Space:
        """The legal policies of the recipe."""
        table, graph = self.recipe.search, self.subject.graph
        names = [layer.name for layer in graph.layers]
        for name in table.freeze:
            if name not in names:
                raise PolicyError(f"search.freeze: no layer {name!r}{did_you_mean(name, names)}")
        return Space(graph, refusal, table.round_to, table.max_mix_bits, frozenset(table.freeze))

    @cached_property
    def sensitivity(self) -> SensitivityTable:
        """The KL table, cached between runs by network and data."""
        recipe, subject = self.recipe, self.subject
        layers = len(subject.graph.layers)
        with self.reporter.progress("sense", f"{layers} layers", layers) as advance:
            table = measure_sensitivity(
                subject.network,
                subject.graph,
                subject.plan,
                subject.data,
                images=recipe.sensitivity_images,
                cache_dir=default_cache() / "sensitivity",
                on_progress=lambda done, total: advance(done * layers // total, ""),
            )
            advance(layers, "")
        self.run.write(SENSITIVITY, table.to_dict())
        return table

    @property
    def divergences(self) -> Mapping[str, Mapping[Kind, tuple[float, ...]]]:
        """The KL table as strategies take it."""
        return self.sensitivity.all_features()

    @cached_property
    def fisher(self) -> dict[str, float]:
        """The Fisher information of every layer, cached between runs by network and data."""
        subject = self.subject
        cache = default_cache() / "sensitivity"
        return measure_fisher(subject.network, subject.graph, subject.data, cache_dir=cache)

    @cached_property
    def energy(self) -> AcceleratorEnergy:
        """The energy of policies on a modelled accelerator, zeros as in calibration images."""
        subject = self.subject
        layers = [layer.name for layer in subject.graph.layers]
        zeros = input_zeros(subject.network, layers, subject.data.calibration(IMAGES))
        return AcceleratorEnergy(subject.graph, eyeriss(), zeros)

    @cached_property
    def loose(self) -> dict[str, int]:
        """How many per cent of each layer's weights can go by the noise that they bear."""
        run, kept = self.run, self.run.path(NOISE)
        if not kept.is_file():
            save_tensors(self._learned_noise(), kept)
        if not run.path(LOOSE).is_file():
            run.write(LOOSE, self._bearable(load_file(kept)))
        return run.read(LOOSE)

    def _bearable(self, log_alpha: Mapping[str, Tensor]) -> dict[str, int]:
        lost = ExpectedLoss(self.subject, self.recipe.validation_images or None)
        tries = itertools.count(1)
        with self.reporter.progress("loose", f"{len(log_alpha)} layers", HALVINGS) as advance:

            def lost_without(shares: Mapping[str, int]) -> float:
                wishes = {n: Choice(pruner=MAGNITUDE, zeros=share) for n, share in shares.items()}
                found = lost(self.space.policy(wishes))
                advance(next(tries), "")
                return found

            return bearable(log_alpha, lost_without, BEARABLE)

    def _learned_noise(self) -> dict[str, Tensor]:
        subject, how = self.subject, NoiseLearning()
        layers = [layer.name for layer in subject.graph.layers]
        found: dict[str, Tensor] = {}
        with self.reporter.progress("noise", f"{len(layers)} layers", how.steps) as advance:
            steps = learn_noise(subject.network, layers, subject.data, how)
            for number, found in enumerate(steps, 1):  # noqa: B007  the last one counts
                advance(number, "")
        return found

    @cached_property
    def residuals(self) -> Residuals:
        """What solving a layer's weights cannot make up for, as it matters; kept in the run."""
        run, subject = self.run, self.subject
        if subject.teacher is None:
            return {}
        if not run.path(RESIDUALS).is_file():
            layers = len(subject.graph.layers)
            with self.reporter.progress("solve", f"{layers} layers", layers) as advance:
                teacher, network = subject.teacher, subject.network
                weights = influence.weights(network, list(teacher.rows), teacher.images)
                found = residuals(network, subject.plan, teacher, weights, advance)
                run.write(RESIDUALS, found)
        return run.read(RESIDUALS)


def save_network(network: nn.Module, path: Path) -> None:
    """Write a network's tensors as safetensors, atomically."""
    save_tensors(network.state_dict(), path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, atomically; raises StoreError where there is no room."""
    tensors = {name: t.detach().clone().contiguous() for name, t in tensors.items()}
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as e:
        raise StoreError(f"cannot write {path}: {e}; free some space and resume the run") from e
