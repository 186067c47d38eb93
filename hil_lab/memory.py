"""Where one search of a run remembers: the store, the log of events, its checkpoint, the bar."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from hil_lab.console import Advance
from hil_lab.runs import SURROGATE, Run
from host.cost import LATENCY, Cost
from host.search import checkpoint
from host.search.episode import Episode, best
from host.search.loop import Memory
from host.search.strategy import State
from host.store import Store
from host.surrogate.scorecard import Scorecard

CHECKPOINT = "strategy.safetensors"


@dataclass
class SearchMemory:
    """What is kept of the search of a run under a name: a target, or the front."""

    run: Run
    store: Store
    name: str
    target: float
    # The cost of the optimised fp32 program, in the unit of `cost`.
    reference: float
    cost: Cost = LATENCY
    so_far: list[Episode] = field(init=False)
    state: tuple[int, State] | None = field(init=False, default=None)
    scorecard: Scorecard = field(init=False, default_factory=Scorecard)

    def __post_init__(self) -> None:
        self.so_far = self._valid(self.store.episodes(self._key))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = checkpoint.load(self._path) if self._path.is_file() else None
        # A state that knows episodes which no longer count is forgotten: a replay makes another.
        if kept is not None and int(kept["number"]) <= len(self.so_far):
            self.state = int(kept["number"]), kept["strategy"]
            if "scorecard" in kept:
                self.scorecard = Scorecard.from_dict(kept["scorecard"])

    @property
    def _key(self) -> str:
        return f"{self.run.name}@{self.name}"

    def _valid(self, episodes: list[Episode]) -> list[Episode]:
        """Drop the episodes from the first one on whose measurement was invalidated since.

        A strategy's later choices depend on it; what they measured otherwise is in the cache.
        """
        names = [name for e in episodes for name in e.evaluation.measurements]
        invalid = self.store.invalid(names)
        for place, episode in enumerate(episodes):
            if invalid.keys() & set(episode.evaluation.measurements):
                self.run.event("requeued", target=self.target, episodes=len(episodes) - place)
                self.store.drop_episodes(self._key, episode.number)
                return episodes[:place]
        return episodes

    @property
    def _folder(self) -> str:
        return f"at-{self.name}"

    @property
    def _path(self) -> Path:
        return self.run.path(self._folder, CHECKPOINT)

    def memory(self, advance: Advance) -> Memory:
        """Return what the search writes to; every new episode moves the bar."""

        def record(episode: Episode) -> None:
            self._record(episode)
            advance(len(self.so_far), self.note())

        return Memory(record, self._save, self.scorecard)

    def note(self) -> str:
        """Say in a few words how the search goes, and how well it foresees."""
        parts = [self._described(best(self.so_far)), str(self.scorecard.figures())]
        return ", ".join(filter(None, parts))

    def _described(self, episode: Episode) -> str:
        share = self.cost.of(episode.evaluation) / self.reference
        return f"best {episode.evaluation.accuracy:.1%} at {share:.2f}x"

    def _record(self, episode: Episode) -> None:
        self.store.add_episode(self._key, episode)
        self.run.event(
            "episode",
            target=self.target,
            number=episode.number,
            reward=episode.reward,
            accuracy=episode.evaluation.accuracy,
            latency_ms=episode.latency_ms,
        )
        self.so_far.append(episode)
        if self.scorecard.accuracy:
            figures = asdict(self.scorecard.figures())
            self.run.event("surrogate", target=self.target, number=episode.number, **figures)

    def _save(self, number: int, state: State) -> None:
        card = self.scorecard.to_dict()
        checkpoint.save(self._path, {"number": number, "strategy": state, "scorecard": card})
        if self.scorecard.accuracy:
            self.run.write(f"{self._folder}/{SURROGATE}", card)
