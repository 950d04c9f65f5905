"""Parts of other packages: listed without being imported, and a bad one is named."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commandline import audiotok
from plugins import install
from sizes import SMALL

from audiotok._platform import registry
from audiotok._platform.registry import (
    CONTRACTS,
    FAMILIES,
    PluginError,
    UnknownPartError,
    find,
    find_preset,
    name_of,
    names,
    parts,
    presets,
)
from audiotok.codecs.load import load
from audiotok.lm.layout import Layout, find_layout
from audiotok.lm.layout.base import LayoutError


def forget() -> None:
    registry._entry_points.cache_clear()
    registry._plugin.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the Python path in which packages can be installed, of no other test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    forget()
    yield tmp_path / "site"
    forget()
    for module in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[module], "__file__", None) or ""):
            del sys.modules[module]


def test_parts_of_a_package_stand_beside_ours(site: Path):
    entries = {"codecs.hold": "there:Hold", "metrics.loud_ness": "there:Loudness"}
    install(site, "there", entries | {"quantizers.plain": "there:Plain"})
    for family, name in (("codecs", "hold"), ("metrics", "loud_ness"), ("quantizers", "plain")):
        assert name in names(family)
        assert names(family) == sorted(names(family))
    assert "there" not in sys.modules
    assert find("codecs", "speech").__name__ == "Speech"
    assert find_preset("codecs", "dac_16khz")[0].__name__ == "Dac"
    assert "there" not in sys.modules, "a plug-in is imported though another part was asked for"
    assert find("metrics", "loud_ness").__name__ == "Loudness"
    assert name_of(find("metrics", "loud_ness")) == "loud_ness"
    assert name_of(find("metrics", "si_sdr")) == "si_sdr"
    assert presets("codecs")["hold"] == "hold"
    assert find_preset("codecs", "hold")[1] is None


def test_a_config_names_a_quantizer_of_a_package(site: Path):
    from dataclasses import replace

    from audiotok.codecs.models.speech import Speech

    install(site, "quantizing", {"quantizers.plain": "quantizing:Plain"})
    options = {"codebooks": 2, "size": 16}
    codec = Speech(replace(SMALL, quantizer="plain", quantizer_options=options))
    assert type(codec.quantizer).__name__ == "Plain"
    with pytest.raises(UnknownPartError, match="unknown quantizers part 'quantizing:Plain'"):
        Speech(replace(SMALL, quantizer="quantizing:Plain", quantizer_options=options))


DIALECT = """
from audiotok.lm.dialects.orpheus import Orpheus

class Mine(Orpheus):
    lm = "Mine"
    first = 20
    facts = "mine"
"""


def test_a_dialect_of_a_package_is_a_layout(site: Path):
    install(site, "speaking", {"dialects.mine": "speaking:Mine"}, DIALECT)
    assert "mine" in names("dialects")
    layout = find_layout("mine")
    codes = np.arange(14).reshape(7, 2)
    assert np.array_equal(layout.decode(layout.encode(codes)), codes)
    assert not np.array_equal(layout.encode(codes), Layout.named("orpheus").encode(codes))
    layout.save(site / "layout.json")
    assert type(Layout.load(site / "layout.json")).__name__ == "Mine"
    with pytest.raises(LayoutError, match=r"nor one of the layouts .*mine, .*orpheus"):
        find_layout("none_such")


def test_a_dialect_that_is_none_is_an_error_that_names_it(site: Path):
    install(site, "speaking", {"dialects.mine": "speaking:Mine"}, "class Mine: ...")
    with pytest.raises(PluginError, match=r"^dialects plug-in 'mine' of package speaking: "):
        find_layout("mine")


BASE = "from audiotok.evaluation.metrics.base import Metric\n"
BAD = {
    "no module": ("nowhere:Metric", "", "module 'nowhere' cannot be imported: ModuleNotFoundError"),
    "no class": ("bad:Missing", "", r"module 'bad' \(.*bad.py\) has no 'Missing'"),
    "no attribute": ("bad", BASE, "'bad' is no name of the form module:attribute"),
    "an error": ("bad:A", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
    "no class but a function": ("bad:f", "def f(): ...", "bad:f is no subclass of audiotok.eval"),
    "another family": ("bad:A", "class A: ...", "bad:A is no subclass of audiotok.evaluation"),
    "nothing defined": (
        "bad:A",
        BASE + "class A(Metric): better = 'higher'",
        "bad:A does not define score",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_part_is_an_error_that_names_it(
    site: Path, fault: str, caplog: pytest.LogCaptureFixture
):
    value, code, message = BAD[fault]
    install(site, "bad", {"metrics.mine": value}, code)
    assert "mine" in names("metrics")
    with pytest.raises(PluginError, match=f"^metrics plug-in 'mine' of package bad: .*{message}"):
        find("metrics", "mine")
    with caplog.at_level(logging.WARNING):
        usable = parts("metrics")
    assert "mine" not in usable
    assert "mel" in usable
    assert "metrics plug-in 'mine' of package bad" in caplog.text


@pytest.mark.parametrize("family", CONTRACTS)
def test_our_own_parts_keep_what_is_asked_of_others(family: str):
    base, members = CONTRACTS[family]
    module = sys.modules.get(f"audiotok.{FAMILIES[family]}.base") or registry.import_module(
        f"audiotok.{FAMILIES[family]}.base"
    )
    for name in names(family):
        part = find(family, name)
        assert issubclass(part, getattr(module, base))
        for member in members:
            assert getattr(part, member, None) is not getattr(getattr(module, base), member, None)
        assert name_of(part) == name


def test_a_name_of_ours_is_taken(site: Path):
    install(site, "taking", {"metrics.mel": "taking:Loudness", "codecs.dac_16khz": "taking:Hold"})
    assert names("metrics").count("mel") == 1
    message = "^metrics plug-in 'mel' of package taking: audiotok has a part of this name"
    with pytest.raises(PluginError, match=message):
        find("metrics", "mel")
    for ask in (lambda: find("codecs", "dac_16khz"), lambda: find_preset("codecs", "dac_16khz")):
        with pytest.raises(PluginError, match="'dac_16khz' of package taking: audiotok has a part"):
            ask()
    assert find("metrics", "si_sdr").__name__ == "SiSdr"
    assert find_preset("codecs", "dac_24khz")[0].__name__ == "Dac"
    assert "taking" not in sys.modules


def test_two_packages_with_one_name(site: Path):
    for package in ("second", "first"):
        install(site, package, {"metrics.mine": f"{package}:Loudness"})
    assert names("metrics").count("mine") == 1
    message = "^metrics plug-in 'mine' of package first and second: two parts of one name"
    with pytest.raises(PluginError, match=message):
        find("metrics", "mine")


PRESETS = """
from audiotok.codecs.models.base import Codec
class A(Codec):
    presets = {PRESETS}
class B(Codec):
    presets = {"mine_16khz": None}
"""


def test_presets_of_two_packages_or_of_ours(site: Path):
    code = PRESETS.replace("PRESETS", '"mine_16khz": None, "mine_24khz": None')
    install(site, "sized", {"codecs.a": "sized:A", "codecs.b": "sized:B"}, code)
    assert find_preset("codecs", "mine_24khz")[0].__name__ == "A"
    with pytest.raises(PluginError, match="part 'mine_16khz': of the plug-ins 'a' and 'b'"):
        find_preset("codecs", "mine_16khz")
    forget()
    install(site, "other", {"codecs.c": "other:A"}, PRESETS.replace("PRESETS", '"speech": None'))
    with pytest.raises(PluginError, match=r"package other: .* name of its preset 'speech'"):
        find("codecs", "c")
    assert find_preset("codecs", "speech")[0].__name__ == "Speech"


@pytest.mark.parametrize("name", ["a:b", "a/b", "a@2", "a b"])
def test_names_that_no_command_could_ask_for(site: Path, name: str):
    install(site, "named", {f"metrics.{name}": "named:Loudness"})
    if ":" in name:  # the format of entry points ends a name there
        name = next(n for n in names("metrics") if n.startswith("a"))
    with pytest.raises(PluginError, match=r"a name is of letters, digits and _ . - only"):
        find("metrics", name)


def test_a_damaged_list_of_a_package_is_no_catastrophe(
    site: Path, caplog: pytest.LogCaptureFixture
):
    install(site, "damaged", {"metrics.a": "damaged:Loudness"})
    (site / "damaged-1.0.dist-info/entry_points.txt").write_text("[audiotok.metrics]\nnothing\n")
    with caplog.at_level(logging.WARNING):
        assert "mel" in names("metrics")
    assert "no plug-ins: a package's entry points are damaged" in caplog.text


def test_codecs_are_listed_beside_one_that_is_bad(site: Path):
    install(site, "bad", {"codecs.good": "bad:Good", "codecs.mine": "bad:Missing"}, GOOD)
    done = audiotok("codecs")
    assert done.code == 0
    assert "speech" in done.out
    assert "\n good " in done.out
    assert "codecs plug-in 'mine' of package bad: module 'bad'" in " ".join(done.err.split())
    done = audiotok("conform", "mine")
    assert done.code == 1
    assert "codecs plug-in 'mine' of package bad" in " ".join(done.err.split())


GOOD = """
from audiotok.codecs.functions import FunctionCodec
class Good(FunctionCodec):
    def __init__(self):
        functions = {"encode": abs, "decode": abs}
        super().__init__(
            name="good", sample_rate=8000, frame_size=80, sizes=(4,), weights="1", **functions
        )
"""


def test_help_reads_no_entry_points():
    """Which would take a tenth of its time."""
    code = (
        "import sys; sys.argv = ['audiotok', '--help']\n"
        "from audiotok.cli.program import program\n"
        "program()(standalone_mode=False)\n"
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_loading_a_codec_of_ours_imports_no_plugin(site: Path):
    install(site, "waiting", {"codecs.hold": "waiting:Hold"})
    assert load("speech").name == "speech"
    assert "waiting" not in sys.modules
    assert load("hold").name == "hold"
    assert "waiting" in sys.modules
