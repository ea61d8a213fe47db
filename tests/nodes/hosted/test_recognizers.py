"""Recognizers within the host's memory management: loaded through it, and gone from it afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch


@pytest.fixture
def hosting(host_modules, weights_folder, monkeypatch):
    import folder_paths

    from anonymize_faces.nodes.hosted import recognizers

    monkeypatch.setitem(folder_paths.folder_names_and_paths, recognizers.FOLDER, ([str(weights_folder)], {".pt"}))
    return recognizers


def nothing(*_: object) -> None:
    pass


def test_weights_are_loaded_by_the_host_and_leave_it_afterwards(hosting, astronaut):
    import comfy.model_management as management

    with hosting.hosted_recognizer(hosting.FACENET, nothing) as recognizer:
        hosted = {type(loaded.model.model).__name__ for loaded in management.current_loaded_models}
        assert {"MTCNN", "InceptionResnetV1"} <= hosted
        assert len(recognizer.find(astronaut[None])[0]) == 1
        left = [weakref.ref(loaded.model.model) for loaded in management.current_loaded_models]
    del recognizer
    gc.collect()
    management.cleanup_models()
    assert [reference() for reference in left] == [None, None]
    assert not [loaded for loaded in management.current_loaded_models if loaded.model is not None]


def test_the_host_gets_its_memory_back_when_measuring_fails(hosting):
    import comfy.model_management as management

    with pytest.raises(InterruptedError), hosting.hosted_recognizer(hosting.FACENET, nothing):
        raise InterruptedError
    gc.collect()
    management.cleanup_models()
    assert not [loaded for loaded in management.current_loaded_models if loaded.model is not None]


def test_networks_made_under_the_hosts_inference_mode_work(hosting, astronaut):
    with torch.inference_mode(), hosting.hosted_recognizer(hosting.FACENET, nothing) as recognizer:
        (faces,) = recognizer.find(astronaut[None])
    assert torch.is_grad_enabled() and len(faces) == 1
