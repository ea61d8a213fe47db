"""Finding and embedding faces for real: a photograph, and pictures that are hard or odd."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image

from anonymize_faces.faces.facenet import VGGFACE2, load_facenet
from anonymize_faces.prefix import MeasurementError, WeightsError
from anonymize_faces.tests.support.facenet_weights import random_weights

HEAD = (slice(0, 256), slice(96, 352))
BOX = (181, 62, 268, 172)
"""Where the astronaut's face is, left, top, right, bottom: seen with the eye."""


def overlap(box, other) -> float:
    """Shared area of two boxes as a share of their union."""
    shared = np.prod(np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return float(shared / (sum(areas) - shared))


def only(facenet, picture: np.ndarray):
    """The one face of a picture."""
    (faces,) = facenet.find(picture[None])
    (face,) = faces
    return face


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def nothing(*_: object) -> None:
    pass


def test_a_real_face_is_found_where_it_is(facenet, astronaut):
    face = only(facenet, astronaut)
    assert overlap(np.array(face.box), np.array(BOX)) > 0.8
    assert face.confidence > 0.99
    assert face.embedding.shape == (512,) and face.embedding.dtype == np.float32
    assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)


def test_things_and_animals_have_no_face(facenet):
    from skimage import data

    for picture in (data.coffee(), data.chelsea(), np.zeros((64, 64, 3), np.uint8)):
        assert facenet.find(picture[None]) == [()]


def test_each_of_many_faces_is_found(facenet, astronaut):
    (faces,) = facenet.find(np.tile(astronaut[HEAD], (3, 3, 1))[None])
    cells = {(int(face.box[1] // 256), int(face.box[0] // 256)) for face in faces}
    assert len(faces) == 9 and cells == {(row, column) for row in range(3) for column in range(3)}


def test_the_largest_face_comes_first(facenet, astronaut):
    picture = np.zeros((256, 384, 3), np.uint8)
    picture[:128, :128] = resized(astronaut[HEAD], 128, 128)
    picture[:, 128:] = astronaut[HEAD]
    (faces,) = facenet.find(picture[None])
    assert [face.box[0] > 128 for face in faces] == [True, False]


def test_a_batch_gives_what_single_pictures_give(facenet, astronaut):
    pictures = np.stack([astronaut, np.zeros_like(astronaut), astronaut[:, ::-1]])
    together = facenet.find(pictures)
    alone = [facenet.find(picture[None])[0] for picture in pictures]
    assert [len(faces) for faces in together] == [1, 0, 1]
    for some, others in zip(together, alone, strict=True):
        for face, other in zip(some, others, strict=True):
            assert np.allclose(face.box, other.box, atol=0.1)
            assert facenet.similarities(face.embedding[None], other.embedding[None])[0, 0] > 0.9999


def test_the_embedding_is_that_of_facenet_pytorchs_own_pipeline(facenet, weights_folder, astronaut):
    from facenet_pytorch import MTCNN, InceptionResnetV1

    network = InceptionResnetV1(classify=False, num_classes=8631).eval()
    state = torch.load(weights_folder / VGGFACE2.name, weights_only=True)
    network.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("logits")})
    with torch.no_grad():
        expected = network(MTCNN(margin=0)(Image.fromarray(astronaut))[None])[0].numpy()
    assert np.allclose(only(facenet, astronaut).embedding, expected, atol=1e-5)


@pytest.mark.parametrize("angle", [15, 30])
def test_a_tilted_face_is_found(facenet, astronaut, angle):
    assert only(facenet, np.asarray(Image.fromarray(astronaut).rotate(angle))).confidence > 0.9


def test_a_face_on_its_side_is_not_found_and_is_no_error(facenet, astronaut):
    assert facenet.find(np.rot90(astronaut)[None].copy()) == [()]


def test_a_grey_face_is_found(facenet, astronaut):
    grey = np.asarray(Image.fromarray(astronaut).convert("L").convert("RGB"))
    assert overlap(np.array(only(facenet, grey).box), np.array(BOX)) > 0.7


def test_a_small_face_is_found_and_a_tiny_one_is_not(facenet, astronaut):
    assert overlap(np.array(only(facenet, resized(astronaut, 128, 128)).box) * 4, np.array(BOX)) > 0.5
    assert facenet.find(resized(astronaut, 48, 48)[None]) == [()]


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (19, 19), (20, 20), (7, 300)])
def test_pictures_too_small_for_a_face_have_none(facenet, size):
    assert facenet.find(np.full((1, *size, 3), 120, np.uint8)) == [()]


def test_a_face_in_an_8k_picture_is_found_where_it_is(facenet, astronaut):
    picture = np.zeros((4320, 7680, 3), np.uint8)
    picture[:, 3000:7320] = resized(astronaut, 4320, 4320)
    expected = np.array(BOX) * 4320 / 512 + np.array([3000, 0, 3000, 0])
    assert overlap(np.array(only(facenet, picture).box), expected) > 0.7


def test_no_picture_at_all_gives_no_faces(facenet):
    assert facenet.find(np.empty((0, 64, 64, 3), np.uint8)) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda state: {}, "another network"),
        (lambda state: state | {"last_bn.weight": torch.ones(7)}, "another network"),
        (lambda state: state | {"extra.weight": torch.ones(7)}, "another network"),
        (lambda state: state | {"last_bn.bias": torch.full((512,), torch.nan)}, "no numbers"),
        (lambda state: state | {"last_bn.bias": "text"}, "something else"),
        (lambda state: [1, 2], "something else"),
    ],
)
def test_weights_of_something_else_are_refused_with_the_remedy(tmp_path, spoil, fault):
    torch.save(spoil(dict(random_weights())), tmp_path / VGGFACE2.name)
    with pytest.raises(WeightsError, match=rf"cannot be used.*{fault}.*Remove it"):
        load_facenet([tmp_path], nothing, nothing)


def test_weights_that_would_run_code_do_not(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save(OrderedDict(weight=Bomb()), tmp_path / VGGFACE2.name)
    with pytest.raises(WeightsError, match="no sound file of weights"):
        load_facenet([tmp_path], nothing, nothing)
    assert not (tmp_path / "ran").exists()


def test_without_facenet_pytorch_the_error_says_what_to_run(weights_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)  # Python then says that there is no such module.
    with pytest.raises(MeasurementError, match=r'run ".*python.*" ".*install\.py" and start ComfyUI again'):
        load_facenet([weights_folder], nothing, nothing)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_an_error_with_the_remedy(weights_folder):
    with pytest.raises(MeasurementError, match=r"cannot run on the device.*with --cpu, give a command --device cpu"):
        load_facenet([weights_folder], lambda network: network.to("cuda"), nothing)


def test_a_package_that_does_not_run_is_told_apart_from_a_missing_one(weights_folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("facenet_pytorch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision.ops.boxes", None)
    with pytest.raises(MeasurementError, match=r"is installed and does not run.*torchvision"):
        load_facenet([weights_folder], nothing, nothing)


def test_the_package_is_imported_only_when_a_recognizer_is_made():
    code = (
        "import sys; from anonymize_faces.faces import facenet, measurement, pictures, plot, report, scoring, weights;"
        "print(sorted({'facenet_pytorch', 'torchvision', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
