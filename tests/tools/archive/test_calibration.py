"""Images for calibration: which are loaded, in which order, how they are prepared, and which are held back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.support import calibration_images
from tests.support.settings import settings
from tools.archive import calibration
from tools.archive.calibration import CalibrationError

SETTINGS = settings(num_classes=10, input_size=(32, 48))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 103 images, in two subfolders."""
    folder = tmp_path_factory.mktemp("images")
    calibration_images.write(folder / "some", 60, seed=1)
    calibration_images.write(folder / "more", 43, seed=2)
    return folder


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        converted: Image.Image = image.convert("RGB")
    return converted


def test_every_fifth_image_is_held_back_in_the_order_of_the_digests(folder: Path) -> None:
    loaded = calibration.load(folder, SETTINGS)

    digests = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.rglob("*.png")}
    assert loaded.sha256 == hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    assert (len(loaded.calibration), len(loaded.held_back)) == (83, 20)
    prepare = transforms.Compose(
        [transforms.Resize((32, 48)), transforms.ToTensor(), transforms.Normalize(SETTINGS.mean, SETTINGS.std)]
    )
    expected = [prepare(opened(digests[digest])) for digest in sorted(digests)]
    torch.testing.assert_close(loaded.held_back, torch.stack(expected[4::5]))
    del expected[4::5]
    torch.testing.assert_close(loaded.calibration, torch.stack(expected))


def test_names_and_copies_and_other_files_change_nothing(folder: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(folder.rglob("*.png"), reverse=True)):
        (tmp_path / f"{number}.PNG").write_bytes(path.read_bytes())
        (tmp_path / f"copy of {number}.png").write_bytes(path.read_bytes())
    (tmp_path / "labels.txt").write_text("not an image")

    loaded, expected = calibration.load(tmp_path, SETTINGS), calibration.load(folder, SETTINGS)

    assert loaded.sha256 == expected.sha256
    assert torch.equal(loaded.calibration, expected.calibration)
    assert torch.equal(loaded.held_back, expected.held_back)


def test_no_more_than_the_maximum_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MAX_IMAGES", 101)
    loaded = calibration.load(folder, SETTINGS)
    assert len(loaded.calibration) + len(loaded.held_back) == 101


def rejected(folder: Path) -> str:
    with pytest.raises(CalibrationError) as raised:
        calibration.load(folder, SETTINGS)
    return str(raised.value)


def test_too_few_images(tmp_path: Path) -> None:
    calibration_images.write(tmp_path, 99)
    assert rejected(tmp_path) == (
        f"--calibration needs at least 100 different images, better 300, like those to be served; {tmp_path} has 99"
    )


def test_unreadable_image(folder: Path, tmp_path: Path) -> None:
    calibration_images.write(tmp_path, 100)
    broken = tmp_path / "broken.png"
    broken.write_bytes(next(folder.rglob("*.png")).read_bytes()[:500])
    assert rejected(tmp_path).startswith(f"--calibration: {broken} cannot be used: Image is truncated or corrupt")


def test_no_folder(tmp_path: Path) -> None:
    assert rejected(tmp_path / "nowhere") == f"--calibration must be a folder of images, got {tmp_path / 'nowhere'}"
