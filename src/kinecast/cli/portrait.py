"""`kinecast animate` for portraits: one, a folder of them, or only a preview."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinecast.cli.common import say
from kinecast.cli.model_choice import AUTO, FACES, choose_model
from kinecast.errors import KinecastError
from kinecast.files import CLIP_OUTPUTS, check_suffix

if TYPE_CHECKING:
    from kinecast.apps.portrait.options import PortraitOptions


@dataclass(frozen=True)
class Portraits:
    """What was asked for."""

    options: "PortraitOptions"
    source: Path | None
    driving: Any
    output: Path | None
    preview: Path | None
    overwrite: bool
    workers: int | None = None
    ray: str | None = None

    @property
    def many(self) -> bool:
        """Whether the output is a folder, for several sources or clips."""
        return self.output is not None and (self.output.is_dir() or not self.output.suffix)

    def possible(self, others: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
        """Return whether the head is pasted back into the whole picture.

        Args:
            others: options that exclude it, by name, and whether they were given.
            asked: options that need it, likewise.

        Raises:
            KinecastError: both were given, or no output.
        """
        if self.many:
            self._check_many()
        else:
            self._check_workers()
        wanted = [name for name, given in asked.items() if given]
        against = [name for name, given in others.items() if given]
        if self.source is None and wanted:
            raise KinecastError(f"{wanted[0]}: expected a picture to animate, found none: name it with --source")
        if wanted and against:
            raise KinecastError(f"{wanted[0]}: expected no --{against[0]} with it, found both: leave one out")
        if self.output is None and self.preview is None:
            raise KinecastError("output: expected an output clip, found none: name it with -o")
        return self.source is not None and not against

    def _check_many(self) -> None:
        from kinecast.apps.portrait.batch import is_batch

        if not is_batch(self.source, Path(self.driving)):
            check_clip_named(self.output)
            self._check_workers()  # a clip of one source, whose name has no suffix

    def _check_workers(self) -> None:
        if self.workers is not None or self.ray is not None:
            raise KinecastError(
                "workers and ray: expected a folder of sources or of clips, found one of each: drop the option"
            )

    def choose_model(self, named: str) -> str:
        """Return the name of the backbone to load: of a folder, the one for faces.

        Raises:
            KinecastError: unreadable input.
        """
        if self.many:
            return FACES if named == AUTO else named
        driving = None if self.output is None else self.driving  # for a preview the source is enough
        return choose_model(named, driving, self.source, (self.options.crop, None))

    def run(self, backbone: Any, model: str, update: Any) -> Any:
        """Animate, and return a report, figures of a batch, or None for a preview alone.

        Raises:
            KinecastError: unreadable input, no face in it, an output that cannot be written.
        """
        from kinecast.apps.animation import Clock
        from kinecast.apps.portrait.batch import plan, run_batch
        from kinecast.apps.portrait.job import animate_portrait, prepared

        assert self.source is not None
        if self.output is None:
            prepared(backbone, self.source, self.options, Clock(), say, self.preview)
            return None
        if not self.many:
            return animate_portrait(
                backbone, self.source, self.driving, self.output, self.options, update, say, self.preview
            )
        for name, given in (("preview", self.preview), ("reenact", self.options.reenact)):
            if given:
                raise KinecastError(f"{name}: expected one source and one clip, found a folder: leave --{name} out")
        tasks = plan(self.source, Path(self.driving), self.output)
        with self._pool(backbone, model) as pool:
            done = run_batch(backbone, tasks, self.options, model, self.overwrite, update, say, pool)
        return {"done": done, "outputs": [str(task.output) for task in tasks]}

    def _pool(self, backbone: Any, model: str) -> AbstractContextManager[Any]:
        """Return what does the work, if not this process."""
        from kinecast.apps.portrait.batch_worker import BatchSettings, PortraitWorker
        from kinecast.jobs.pool import WorkerPool

        if self.workers is None and self.ray is None:
            return nullcontext()
        used = (str(backbone.device), backbone.engine, backbone.precision)
        return WorkerPool(PortraitWorker(BatchSettings(model, *used, self.options)), self.workers, self.ray)


def check_clip_named(output: Path | None) -> Path:
    """Return an output that is one clip.

    Raises:
        KinecastError: there is none, or it has another name.
    """
    if output is None:
        raise KinecastError("output: expected an output clip, found none: name it with -o")
    return check_suffix(output, CLIP_OUTPUTS, "clip")
