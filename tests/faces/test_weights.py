"""Fetching weights from a release host that is slow, broken, wrong or gone."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anonymize_faces.faces.weights import CHUNK_BYTES, Weights, read_weights
from anonymize_faces.prefix import WeightsError
from anonymize_faces.tests.support.breaking_off import BrokenOffError

CONTENT = np.random.default_rng(0).bytes(3 * CHUNK_BYTES + 17)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class ReleaseHost(http.server.ThreadingHTTPServer):
    """Serves one file, with ranges, as object stores do."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = CONTENT
        self.tag = '"one"'
        self.breaks_after: int | None = None
        self.knows_ranges = True
        self.status = 200
        self.served: list[str | None] = []

    def weights(self, sha256: str | None = DIGEST) -> Weights:
        return Weights("net.pt", f"http://127.0.0.1:{self.server_port}/net.pt", sha256)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ReleaseHost

    def do_GET(self) -> None:
        host, asked = self.server, self.headers.get("Range")
        host.served.append(asked)
        if host.status != 200:
            self.send_error(host.status)
            return
        start = 0
        if asked and host.knows_ranges and self.headers.get("If-Range") == host.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(host.content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(host.content) - 1}/{len(host.content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", host.tag)
        self.send_header("Content-Length", str(len(host.content) - start))
        self.end_headers()
        end = len(host.content) if host.breaks_after is None else host.breaks_after
        self.wfile.write(host.content[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[ReleaseHost]:
    with ReleaseHost() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def parse(data: bytes) -> int:
    if data.startswith(b"<html"):
        raise WeightsError("It is no sound file of weights.")
    return len(data)


def fetch(weights: Weights, *folders: Path, report=lambda done, total: None):
    return read_weights(weights, folders, parse, report)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_in_any_of_the_folders_is_used_and_nothing_is_asked(host, tmp_path):
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "net.pt").write_bytes(CONTENT)
    assert fetch(host.weights(), tmp_path / "first", tmp_path / "second") == (len(CONTENT), DIGEST)
    assert host.served == [] and not (tmp_path / "first").exists()


def test_a_missing_file_is_downloaded_whole_into_the_first_folder(host, tmp_path):
    seen = []
    done = fetch(host.weights(), tmp_path / "new", tmp_path, report=lambda *step: seen.append(step))
    assert done == (len(CONTENT), DIGEST)
    assert names(tmp_path / "new") == ["net.pt"]
    assert (tmp_path / "new" / "net.pt").read_bytes() == CONTENT
    assert seen[0] == (CHUNK_BYTES, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_download_goes_on_where_it_broke(host, tmp_path):
    host.breaks_after = CHUNK_BYTES + 100
    with pytest.raises(WeightsError, match=rf"after {CHUNK_BYTES + 100} of {len(CONTENT)} bytes.*queue again"):
        fetch(host.weights(), tmp_path)
    assert "net.pt" not in names(tmp_path)
    host.breaks_after = None
    assert fetch(host.weights(), tmp_path)[1] == DIGEST
    assert host.served == [None, f"bytes={CHUNK_BYTES + 100}-"]
    assert names(tmp_path) == ["net.pt"]


def test_a_cancelled_download_goes_on_as_well(host, tmp_path):
    def cancel(done: int, total: int) -> None:
        raise BrokenOffError

    with pytest.raises(BrokenOffError):
        fetch(host.weights(), tmp_path, report=cancel)
    assert fetch(host.weights(), tmp_path)[1] == DIGEST
    assert host.served[1] == f"bytes={CHUNK_BYTES}-" and names(tmp_path) == ["net.pt"]


def test_a_download_begins_anew_if_the_release_changed_meanwhile(host, tmp_path):
    host.breaks_after = 1000
    with pytest.raises(WeightsError):
        fetch(host.weights(), tmp_path)
    host.breaks_after, host.tag, host.content = None, '"two"', CONTENT[::-1]
    fetch(host.weights(None), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT[::-1]


def test_a_download_begins_anew_if_the_host_knows_no_ranges(host, tmp_path):
    (tmp_path / "net.pt.part").write_bytes(CONTENT[:500])
    (tmp_path / "net.pt.part-tag").write_text(host.tag)
    host.knows_ranges = False
    assert fetch(host.weights(), tmp_path)[1] == DIGEST


def test_a_part_as_long_as_the_file_or_longer_does_not_stand_in_the_way(host, tmp_path):
    (tmp_path / "net.pt.part").write_bytes(CONTENT + b"more")
    (tmp_path / "net.pt.part-tag").write_text(host.tag)
    assert fetch(host.weights(), tmp_path)[1] == DIGEST
    assert names(tmp_path) == ["net.pt"]


def test_a_part_of_unknown_origin_is_not_continued(host, tmp_path):
    (tmp_path / "net.pt.part").write_bytes(b"?" * 500)
    assert fetch(host.weights(), tmp_path)[1] == DIGEST
    assert host.served == [None]


def test_a_damaged_part_is_noticed_and_removed(host, tmp_path):
    (tmp_path / "net.pt.part").write_bytes(b"?" * 500)
    (tmp_path / "net.pt.part-tag").write_text(host.tag)
    with pytest.raises(WeightsError, match=r"SHA-256 is .* not .* queue again"):
        fetch(host.weights(), tmp_path)
    assert names(tmp_path) == []
    assert fetch(host.weights(), tmp_path)[1] == DIGEST


def test_a_wrong_checksum_leaves_nothing_behind(host, tmp_path):
    with pytest.raises(WeightsError, match=rf"SHA-256 is {DIGEST}, not {'0' * 64}\. .*yourself"):
        fetch(host.weights("0" * 64), tmp_path)
    assert names(tmp_path) == []


def test_without_a_published_digest_the_first_download_is_noted_and_holds(host, tmp_path):
    fetch(host.weights(None), tmp_path)
    assert (tmp_path / "net.pt.sha256").read_text() == f"{DIGEST}  net.pt\n"
    (tmp_path / "net.pt").write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"damaged.*Remove the file.*remove that"):
        fetch(host.weights(None), tmp_path)


def test_a_digest_that_the_artist_put_there_is_asked_for(host, tmp_path):
    (tmp_path / "net.pt.sha256").write_text("1" * 64)
    with pytest.raises(WeightsError, match="SHA-256"):
        fetch(host.weights(None), tmp_path)
    assert names(tmp_path) == ["net.pt.sha256"]


def test_what_is_no_weights_file_is_not_kept(host, tmp_path):
    host.content = b"<html>Please log in</html>"
    with pytest.raises(WeightsError, match="no sound file"):
        fetch(host.weights(None), tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [404, 503])
def test_a_host_that_refuses_is_told_with_the_file_and_its_place(host, tmp_path, status):
    host.status = status
    with pytest.raises(WeightsError, match=rf"could not be downloaded.*get http.*net\.pt.*put it into '{tmp_path}'"):
        fetch(host.weights(), tmp_path)
    assert names(tmp_path) == []


def test_without_network_one_sentence_says_which_file_goes_where(tmp_path):
    gone = Weights("net.pt", "http://127.0.0.1:9/net.pt", DIGEST)
    with pytest.raises(WeightsError, match=rf"127\.0\.0\.1:9/net\.pt .*into '{tmp_path}' under the name net\.pt"):
        fetch(gone, tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_is_told(host, tmp_path):
    (tmp_path / "facenet").write_text("a file in the folder's place")
    with pytest.raises(WeightsError, match=r"could not be saved in '.*facenet'.*can be written to"):
        fetch(host.weights(), tmp_path / "facenet")
    assert names(tmp_path) == ["facenet"]


def test_a_disk_that_is_full_is_told_and_given_back_what_was_taken(host, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES, before[1]))
    try:
        with pytest.raises(WeightsError, match=r"could not be saved.*room"):
            fetch(host.weights(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == []


def test_a_download_without_end_is_stopped(host, tmp_path, monkeypatch):
    monkeypatch.setattr("anonymize_faces.faces.weights.MAX_WEIGHTS_BYTES", 1000)
    with pytest.raises(WeightsError, match="more than it can be"):
        fetch(host.weights(), tmp_path)
    assert names(tmp_path) == []
