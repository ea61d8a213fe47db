"""Whom a picture shows, by the names of its file and folders."""

from __future__ import annotations

import pytest

from anonymize_faces.captions.names import mixed_folders, name_of, possible_names
from anonymize_faces.trainer.data.list_text import sameness

AFTER_A_NAME = (
    " 2 (1)| - Copy| copy 2| - Copy (3)| (Kopie)| [2]| {2}| 2023-05-05| 2.5|.2|, 2| #2| 02 - 03|\uff12".split("|")
)
BY_DEVICES = (
    *"IMG_0001 IMG_E0001 IMG-20240101-WA0001 FB_IMG_1 DSC_0001 _DSC0001 DJI_0001 GOPR0001 GX010001 P1010001".split(),
    *"_MG_1234 PXL_20240101_120000123.PORTRAIT MVIMG_2024 received_123 ComfyUI_00001_".split(),
    *("Photo on 1-1-24 at 3.14 PM", "Screen Shot 2024-05-05", "image (3)"),
    *("WhatsApp Image 2024-01-01 at 12.00.00", "Frame 12"),
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Ada Example.jpg", "Ada Example"),
        ("Ada Example 2.jpg", "Ada Example"),
        ("Ada_Example_02.png", "Ada Example"),
        ("Ada Example (3).webp", "Ada Example"),
        ("Ada Example-4.jpeg", "Ada Example"),
        ("Ada Example/IMG_1234.jpg", "Ada Example"),
        ("10_Ada Example/1.jpg", "Ada Example"),
        ("José Ñandú 7.jpg", "José Ñandú"),
        ("山田花子2.jpg", "山田花子"),
        ("Ada: #1 fan.jpg", "Ada 1 fan"),
        ("Ada\uff1a Example.jpg", "Ada Example"),
        ("IMG_1234.jpg", ""),
        ("DSC00017.JPG", ""),
        ("20240101_120000.jpg", ""),
        ("12.png", ""),
        ("Screenshot 2024-05-05.png", ""),
        ("WhatsApp Image 2023.jpg", ""),
        *((f"Ada Example{after}.jpg", "Ada Example") for after in AFTER_A_NAME),
        *((f"{folder}/Ada Example 2.jpg", "Ada Example") for folder in ("train", "2024", "images", "My Photos", "Bob")),
        *((f"Ada Example/{file}", "Ada Example") for file in ("front/1.jpg", "2024/1.jpg", "beach.jpg")),
        ("Ada Example/Front View.jpg", "Ada Example"),
        *((f"{stem}.jpg", "") for stem in BY_DEVICES),
        *((f"{name} 1.jpg", name) for name in ("Frame Frank", "Pic Frame", "Jean Image", "Ludwig van Example")),
        ("train/ada 1.jpg", "ada"),
        ("friends/Bob/1.jpg", "Bob"),
        ("photos/Ludwig van Example.jpg", "Ludwig van Example"),
        ("Ada Example/at the beach 3.jpg", "Ada Example"),
        ("train/faces/front 1.jpg", ""),
        ("Ada/山田 花子2.jpg", "山田 花子"),
        ("images/Ada\u0301 Example 2.jpg", "Ada\u0301 Example"),
        ("Sur\udcffrog.png", ""),
        ("Ada Example/\udcff.png", "Ada Example"),
    ],
)
def test_a_name_is_the_files_or_its_folders_and_never_a_cameras(path, name):
    assert name_of(path) == name


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("Agent 47 (2).jpg", ["Agent 47 (2)", "Agent 47", "Agent"]),
        ("train/10_Ada/beach 3.jpg", ["beach 3", "beach", "10 Ada", "Ada", "train", "train"]),
        ("Ada/Bea Sample.jpg", ["Bea Sample"]),
    ],
)
def test_a_listed_name_is_looked_for_in_the_files_name_first(path, names):
    assert list(possible_names(path)) == names


def test_a_folder_with_several_names_is_told():
    assert mixed_folders(["train/Ada Example 1.jpg", "train/Bea Sample.jpg", "Ada.jpg", "Bob.jpg"], sameness) == []
    one_persons = [f"Ada Example/{name}.jpg" for name in ("1", "beach", "party", "ADA  EXAMPLE 2")]
    assert mixed_folders(one_persons, sameness) == []
    assert mixed_folders(["Club/Ada Example.jpg", "Club/Bea Sample.jpg"], sameness) == [], "each has a name of its own"
    ((folder, told),) = mixed_folders(["Club/Ada 1.jpg", "Club/Ada 2.jpg", "Club/Bob.jpg"], sameness)
    assert folder == "Club" and "several names (Ada, Bob)" in told and "pictures of 'Club'" in told
    ((folder, told),) = mixed_folders([*one_persons, "Ada Example/Bea Sample.jpg"], sameness)
    assert folder == "Ada Example" and "several names (Bea Sample)" in told
