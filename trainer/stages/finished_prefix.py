"""Teaches a finished prefix where faces are, with pictures that are drawn for that alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...engines.denoiser import Denoiser
from ...engines.micro_batches import MicroBatches
from ...faces.recognizer import Finder
from ...prefix.errors import TrainingError
from ...prefix.value import Prefix
from ...runs.run_folder import RunFolder, run_key
from ..data.drawing import DRAWN_AT_ONCE, known_of
from ..data.identities import Identity
from ..data.pairs import training_pairs
from ..data.pictures import Pictures, draw_pictures
from ..parallel.shared_work import mask
from ..settings import TrainingSettings
from ..validation import hold_out, spread
from .face_region import HELD_OUT, LEARNED, learn_face_region

WORK = "face region"
"""What unfinished work is called."""


def with_face_region(
    denoiser: Denoiser,
    prefix: Prefix,
    identities: Sequence[Identity],
    prompts: Sequence[str],
    finder: Finder,
    settings: TrainingSettings,
    check: Callable[[], None] = lambda: None,
    report: Callable[[str, int, int], None] = lambda stage, done, of: None,
    runs: Path | None = None,
) -> Prefix:
    """A finished prefix with a head that is learned for it; the prefix itself is the same to the last bit.

    Args:
        identities, prompts: as for learning a prefix, best those that it was learned from.
        settings: batch size, seed and what is drawn follow from them.
        check: called often; may raise to break off.
        report: called often with a stage, "drawing" or "face_region", what of it is done and what there is to do.
        runs: the folder of unfinished runs, where drawn pictures are kept until it is done; None to keep none.

    Raises:
        TrainingError: the prefix is another model's, or as `learn_face_region`.
        MeasurementError: the finder cannot run here.
    """
    if prefix.record.fingerprint != denoiser.fingerprint:
        raise TrainingError("The prefix was learned on another checkpoint: choose the one that it was learned on.")
    held_out = hold_out(identities, prompts, settings.held_out, settings.seed)
    pairs = training_pairs(held_out, settings)
    places = range(len(pairs.learned))
    unmet = [index for index in range(len(places), len(pairs.drawn)) if pairs.drawn[index].names_somebody]
    unmet = spread(unmet, HELD_OUT)
    of_people = LEARNED + HELD_OUT - len(unmet)
    wanted = spread([index for index in places if pairs.learned[index].names_somebody], of_people)
    wanted += spread([index for index in places if not pairs.learned[index].names_somebody], LEARNED)
    key = run_key(work=WORK, model=denoiser.digest, seed=settings.seed, pairs=pairs.drawn)
    with RunFolder(runs, key) as folder:
        known = known_of(folder, "drawn")
        latents = folder.tensor_store("pictures", len(pairs.drawn), denoiser.latent_shape, known, precious=True)

        def drew(pictures: int) -> None:
            folder.save("drawn", {"known": mask(latents)}, {})
            report("drawing", pictures, len(wanted) + len(unmet))

        draw_pictures(
            denoiser,
            pairs.drawn,
            settings.seed,
            MicroBatches(denoiser, DRAWN_AT_ONCE * settings.batch_size, check),
            latents,
            drew,
            wanted=[*wanted, *unmet],
        )
        learned = learn_face_region(
            denoiser,
            prefix.parameters,
            Pictures(latents, pairs.drawn),
            wanted,
            unmet,
            finder,
            settings.seed,
            MicroBatches(denoiser, settings.batch_size, check),
            lambda done, of: report("face_region", done, of),
        )
        folder.remove()
    return learned.joined(prefix)
