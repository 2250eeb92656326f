"""What is predicted: a task is a name, its classes and its weight in the joint loss."""

from dataclasses import dataclass, replace

MIKELS_EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")
"""The eight emotions of [0042], in the patent's order. Published sets order them differently."""

TASK_COLOURS = {"aesthetics": "#0072B2", "emotion": "#D55E00"}
"""Fixed everywhere; from the palette of Okabe & Ito (2008), which colour-blind readers can tell apart."""
MORE_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def task_colour(name: str) -> str:
    """A task's colour: the fixed one, or one that depends only on its name, so that arousal's isn't valence's."""
    return TASK_COLOURS.get(name) or MORE_COLOURS[sum(k * b for k, b in enumerate(name.encode())) % len(MORE_COLOURS)]


@dataclass(frozen=True)
class Task:
    """One classification task.

    Args:
        name: a short identifier; it names columns, keys and folders.
        classes: at least two distinct class names, in the order of the votes and the logits.
        loss_weight: the task's factor in the joint loss, at least 0 (the patent's lambda; [0061]).
    """

    name: str
    classes: tuple[str, ...]
    loss_weight: float = 1.0

    def __post_init__(self):
        if not self.name.isidentifier():
            raise ValueError(f"task name {self.name!r}: expected an identifier such as 'emotion'")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"task {self.name!r}: expected two or more distinct classes, got {list(self.classes)}")
        try:
            "".join(self.classes).encode()
        except UnicodeEncodeError:  # a folder's name need not be text; no table could hold it
            raise ValueError(f"task {self.name!r}: expected text as classes, got {list(self.classes)}") from None
        if not 0 <= self.loss_weight < float("inf"):
            raise ValueError(f"task {self.name!r}: loss_weight must be finite and at least 0, got {self.loss_weight}")

    def index(self, label: str) -> int:
        """The position of a class; a ValueError names those that there are."""
        if label not in self.classes:
            raise ValueError(f"task {self.name!r} has no class {label!r}; its classes are {', '.join(self.classes)}")
        return self.classes.index(label)


AESTHETICS = Task("aesthetics", ("low", "high"), 1.0)
EMOTION = Task("emotion", MIKELS_EMOTIONS, 0.25)
AFFECT_QUADRANTS = Task("emotion", ("negative_calm", "negative_aroused", "positive_calm", "positive_aroused"), 0.25)
PATENT_TASKS = (AESTHETICS, EMOTION)
"""High/low aesthetics and the eight emotions [0041-0042], L = La + 1/4 Le [0061]."""
OASIS_TASKS = (AESTHETICS, AFFECT_QUADRANTS)
"""OASIS has no votes on the eight emotions; its honest emotion task is valence x arousal."""
OASIS_SCALES = (
    AESTHETICS, Task("valence", ("negative", "positive")), Task("arousal", ("calm", "aroused")),
    Task("category", ("Animal", "Object", "Person", "Scenery")),
)
"""OASIS' scales apart, for more than two branches, and what the photograph shows."""


def with_loss_weights(tasks: tuple[Task, ...], weights: dict[str, float]) -> tuple[Task, ...]:
    """The same tasks with other loss weights; tasks that are not named keep theirs."""
    unknown = set(weights) - {task.name for task in tasks}
    if unknown:
        raise ValueError(f"loss weights for unknown tasks {sorted(unknown)}; tasks are {[t.name for t in tasks]}")
    return tuple(replace(task, loss_weight=float(weights.get(task.name, task.loss_weight))) for task in tasks)
