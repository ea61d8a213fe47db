"""Defines the nodes Describe Faces and Describe People."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..captions.describing import DescribingSettings, describe, in_order, sayable
from ..captions.names import listable, mixed_folders, name_of
from ..captions.people import describe_people
from ..captions.report import report_of_people, report_of_pictures, table_of_people, table_of_pictures
from ..prefix.errors import DescriptionError
from ..prefix.files.naming import name_fault
from ..trainer.data.identities import parse_identities
from ..trainer.data.list_text import sameness
from .hosted.looks_readers import CHOICES, CLIP_MODEL, ask_of, hosted_readers
from .shared.inputs import InputError, checked, quoted
from .shared.interface import IdentitiesSocket, advanced, seed_widget, shown_progress, tell, widget

if TYPE_CHECKING:
    import numpy as np

    from ..captions.attributes import Attribute
    from ..captions.describing import Description

DEMO_PEOPLE = "the demo's people"
"""The choice in place of a folder for which nobody needs photographs."""

DEEPEST = 3
"""Folders below the input folder that are listed, one in another."""

LISTS = ("images",)

NumberedPicture = tuple[int, "np.ndarray"]
"""The number of a picture, and its pixels, uint8 [height, width, 3]."""


@dataclass(frozen=True)
class _Photographs:
    """Pictures of people.

    Attributes:
        called: whom each shows; empty: nobody, as far as can be told.
        pictures: those with somebody, one after the other.
        failed: fills with what is the matter with those that cannot be read, while the others come.
        paths: where they are, below the folder that was chosen; none if they come from no folder.
    """

    called: Sequence[str]
    pictures: Iterable[NumberedPicture]
    failed: Sequence[Description] = ()
    paths: Sequence[str] = ()


class DescribeFaces(io.ComfyNode):
    """Says in words how the faces in pictures look."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="DescribeFaces",
            display_name="Describe Faces",
            category="anonymize",
            description="Describes the faces in pictures in words: hair, skin, glasses, beard, age. What the reader is"
            " not sure of is left out. The captions are a list, for dataset and LoRA nodes.",
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures: a batch, or a list of pictures of any sizes."),
                _reader_widget(),
                *_settings_widgets("certainty", "attributes", "order", "style", "several", "only_photographs"),
                seed_widget(DescribingSettings),
                _clip_model_widget(),
                advanced(
                    io.Boolean.Input(
                        "reword",
                        default=False,
                        optional=True,
                        tooltip="Lets the connected language model put each sentence into other words. A sentence that"
                        " then says anything else is dropped, and the first one stays.",
                    )
                ),
                _language_model_socket(),
            ],
            outputs=[
                io.String.Output(
                    display_name="captions",
                    is_output_list=True,
                    tooltip="A sentence for each described face, in the order of the pictures.",
                ),
                io.String.Output(
                    display_name="table",
                    tooltip="CSV of everything that was read: attribute, answer, probability, and whether it is said.",
                ),
                io.Image.Output(
                    display_name="faces",
                    is_output_list=True,
                    tooltip="The faces as they were cut out, one for each caption.",
                ),
                io.Image.Output(
                    display_name="pictures",
                    is_output_list=True,
                    tooltip="The whole pictures, one for each caption: those without a described face are left out.",
                ),
            ],
        )

    @classmethod
    @checked(lists=LISTS)
    def execute(
        cls,
        images: tuple[Tensor, ...],
        reader: str,
        clip_model: str = CLIP_MODEL,
        reword: bool = False,
        language_model: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Finds, reads, says."""
        chosen = DescribingSettings(**settings)
        pictures = _pictures_of(images)
        ask = ask_of(language_model) if reword else None
        told, seen = _described(enumerate(pictures), len(pictures), reader, chosen, clip_model, language_model)
        described = in_order(told)
        faces = [one for one in described if one.described]
        if not faces:
            finding = next((one.finding for one in described if one.finding), "nothing was read")
            raise DescriptionError(
                f"No face could be described ({finding.rstrip('.')}): connect pictures with a face of 20 pixels or"
                " more, or choose another reader."
            )
        report = report_of_pictures(described, _called, seen.name)
        if ask is not None:
            said = _reworded(faces, seen.attributes, ask)
            changed = sum(one.caption != other.caption for one, other in zip(faces, said, strict=True))
            faces, report = said, f"{report}\n{changed} of {len(said)} reworded."
        return io.NodeOutput(
            [one.caption for one in faces],
            table_of_pictures(described, _called),
            [_image(one.crop) for one in faces],
            [_image(pictures[one.picture]) for one in faces],
            ui=tell(report),
        )


class DescribePeople(io.ComfyNode):
    """Makes a list of people, with their looks, of photographs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets, widgets and words of the node."""
        return io.Schema(
            node_id="DescribePeople",
            display_name="Describe People",
            category="anonymize",
            description="Describes people from photographs, for a list to learn a prefix from: names from the files,"
            " looks from the pictures. Of several photographs of a person the majority counts.",
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=[DEMO_PEOPLE, *_input_folders()],
                    default=DEMO_PEOPLE,
                    tooltip="A folder in ComfyUI's input folder with photographs: 'Ada Example 2.jpg' is of Ada"
                    " Example, and so is all in a folder 'Ada Example' in it. Not used if images are connected.",
                ),
                _reader_widget(),
                *_settings_widgets("certainty", "attributes"),
                widget(
                    DescribingSettings,
                    "several",
                    options=["largest", "skip"],
                    tooltip="What becomes of a picture with several faces: the largest is described, or the picture is"
                    " skipped.",
                ),
                widget(DescribingSettings, "only_photographs"),
                io.String.Input(
                    "names",
                    multiline=True,
                    default="",
                    placeholder="for connected images: a name for each, one a line",
                    tooltip="Whom the connected images show, one name a line, in their order. The same name may come"
                    " several times.",
                ),
                _clip_model_widget(),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Photographs in place of a folder: a batch, or a list of pictures of any sizes.",
                ),
                _language_model_socket(),
            ],
            outputs=[
                IdentitiesSocket.Output(
                    display_name="identities", tooltip="The people, for Train Anonymization Prefix."
                ),
                io.String.Output(
                    display_name="text", tooltip="The same as lines for Identity List, to look through and change."
                ),
                io.String.Output(
                    display_name="table",
                    tooltip="CSV of what the photographs of each person say together, and of what was left out.",
                ),
                io.Image.Output(
                    display_name="faces",
                    is_output_list=True,
                    tooltip="A face of each person, as it was cut out, in the order of the list.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: Any = None, **_: Any) -> str:
        """Runs the node anew when there are other files in the folder."""
        name = folder[0] if isinstance(folder, list) and folder else folder
        if not isinstance(name, str) or name == DEMO_PEOPLE:
            return ""
        files = [(str(path), path.stat().st_mtime_ns) for path in _files_in(name)] if name in _input_folders() else []
        return hashlib.sha256(repr(files).encode()).hexdigest()

    @classmethod
    @checked(lists=LISTS)
    def execute(
        cls,
        folder: str,
        reader: str,
        names: str,
        images: tuple[Tensor, ...] = (),
        clip_model: str = CLIP_MODEL,
        language_model: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Finds, reads, joins the photographs of each person."""
        chosen = DescribingSettings(**settings)
        images = tuple(one for one in images if one is not None)
        photographs = _named(images, names) if images else _photographs(folder)
        called = photographs.called
        total = sum(map(bool, called))
        keep = _OneFaceEach(called)
        told, seen = _described(photographs.pictures, total, reader, chosen, clip_model, language_model, keep)
        pairs = [(called[one.picture], one) for one in in_order([*told, *photographs.failed])]
        people = describe_people(pairs, sayable(seen), chosen, sameness, parse_identities)
        report = report_of_people(people, seen.name, len(called) - total, mixed_folders(photographs.paths, sameness))
        lines = [person.line for person in people if person.description]
        if not lines:
            raise DescriptionError(f"Nobody could be described. {report}")
        text = "\n".join(lines)
        first = [_first_face(person.name, pairs) for person in people if person.description]
        return io.NodeOutput(parse_identities(text), text, table_of_people(people), first, ui=tell(report))


def _reader_widget() -> io.WidgetInput:
    return io.Combo.Input(
        "reader",
        options=CHOICES,
        default=CHOICES[0],
        tooltip="Who reads looks. CLIP: a model in models/zero_shot_clip. Vision language model: a text encoder that"
        " sees pictures and writes text, connected to language_model (newer versions of ComfyUI). The demo reader knows"
        " the faces of the demo model alone.",
    )


def _settings_widgets(*names: str) -> list[io.WidgetInput]:
    return [widget(DescribingSettings, name) for name in names]


def _clip_model_widget() -> io.WidgetInput:
    return advanced(
        io.String.Input(
            "clip_model",
            default=CLIP_MODEL,
            optional=True,
            tooltip="For the reader CLIP: the folder in models/zero_shot_clip with config.json, model.safetensors and"
            " tokenizer.json of a whole CLIP model. Nothing is downloaded.",
        )
    )


def _language_model_socket() -> io.Input:
    return io.Clip.Input(
        "language_model",
        optional=True,
        tooltip="A vision language model that was loaded as a text encoder, such as Qwen3-VL. It is not changed.",
    )


def _described(
    pictures: Iterable[NumberedPicture],
    total: int,
    choice: str,
    settings: DescribingSettings,
    clip_model: str,
    language_model: Any,
    keep: Callable[[Description], Description] = lambda one: one,
) -> tuple[list[Description], Any]:
    """What came of pictures, as `keep` leaves it, and the reader."""
    with hosted_readers(choice, settings, clip_model, language_model) as (finder, reader):
        told = [keep(one) for one in describe(pictures, finder, reader, settings, shown_progress(), total)]
    return told, reader


class _OneFaceEach:
    """Drops all faces of each person but the first, so that folders of any size fit into memory."""

    def __init__(self, called: Sequence[str]) -> None:
        self._called = called
        self._known: set[str] = set()

    def __call__(self, one: Description) -> Description:
        key = sameness(self._called[one.picture])
        if one.crop is None or key not in self._known:
            self._known |= {key} if one.described else set()
            return one
        return dataclasses.replace(one, crop=None)


def _reworded(
    faces: Sequence[Description], attributes: Sequence[Attribute], ask: Callable[[str, None, int], str]
) -> list[Description]:
    from ..captions.rewriting import MOST_TOKENS, Rewriter

    rewriter = Rewriter(attributes, lambda request: ask(request, None, MOST_TOKENS))
    return [dataclasses.replace(one, caption=rewriter.rewrite(one.caption)) for one in faces]


def _pictures_of(batches: Sequence[Tensor]) -> list[np.ndarray]:
    from ..faces.pictures import pictures_of

    return [picture for batch in batches for picture in pictures_of(batch, "images")]


def _named(batches: Sequence[Tensor], names: str) -> _Photographs:
    pictures = _pictures_of(batches)
    called = [line.strip() for line in names.splitlines() if line.strip()]
    if len(called) != len(pictures):
        raise InputError(
            f"There are {len(pictures)} images and {len(called)} names: write a name for each image into names, one a"
            " line, in their order."
        )
    called = [listable(name) for name in called]
    return _Photographs(called, ((n, one) for n, one in enumerate(pictures) if called[n]))


def _photographs(folder: str) -> _Photographs:
    """The pictures of a folder, which are read as they are asked for."""
    from ..captions.folder import read_pictures
    from ..faces.picture_files import SUFFIXES

    if folder == DEMO_PEOPLE:
        from ..demo.world.photographs import photographs

        drawn = photographs()
        return _Photographs([name_of(name) for name, _ in drawn], enumerate(picture for _, picture in drawn))
    root, files = _input_folder(folder), _files_in(folder)
    if not files:
        raise DescriptionError(f"There are no pictures in '{root}': put some there ({', '.join(SUFFIXES)}).")
    paths = [path.relative_to(root).as_posix() for path in files]
    called = [name_of(path) for path in paths]
    failed: list[Description] = []
    pictures = read_pictures([number for number, name in enumerate(called) if name], files, failed)
    return _Photographs(called, pictures, failed, paths)


def _files_in(folder: str) -> list[Path]:
    from ..faces.picture_files import pictures_below

    return pictures_below(_input_folder(folder))


def _input_folder(name: str) -> Path:
    """A folder in the host's input folder.

    Raises:
        DescriptionError: it is none of those that are listed.
    """
    if name not in _input_folders():
        raise DescriptionError(
            f"There is no folder {quoted(name)} in ComfyUI's input folder: make it, or choose another."
        )
    return Path(folder_paths.get_input_directory()) / name


def _input_folders() -> list[str]:
    """The folders in the host's input folder, with "/" between.

    Those that no menu, page or workflow can take because of their names are left out: some would be markup in the menus
    of older frontends, and one that is no text would take all nodes off the host's list.
    """
    root = Path(folder_paths.get_input_directory())
    found: list[Path] = []
    level = [root]
    for _ in range(DEEPEST):
        level = sorted(path for folder in level for path in _folders_in(folder))
        found += level
    names = (path.relative_to(root).as_posix() for path in found)
    return sorted(name for name in names if name_fault(name) is None)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []


def _first_face(name: str, pairs: Sequence[tuple[str, Description]]) -> Tensor:
    key = sameness(name)
    return next(_image(one.crop) for other, one in pairs if one.described and sameness(other) == key)


def _called(number: int) -> str:
    return f"picture {number + 1}"


def _image(picture: np.ndarray | None) -> Tensor:
    """A picture as the host's IMAGE [1, height, width, 3]."""
    assert picture is not None
    return torch.from_numpy(picture.copy()).float().div(255)[None]


NODES = [DescribeFaces, DescribePeople]
