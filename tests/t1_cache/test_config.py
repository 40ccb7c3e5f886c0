"""config.toml: what is wrong is named with its line, and a broken file changes nothing."""

import logging
import os
from dataclasses import replace

import pytest

from bitdustfs import config
from bitdustfs.cli.cmd_mount import parse_options
from bitdustfs.cli.main import make_parser
from bitdustfs.errors import UsageError
from bitdustfs.mount import mount_config
from bitdustfs.mount.mount_config import MountReload, with_configured
from bitdustfs.mount.options import MountOptions
from bitdustfs.plain import BoundedLog, reopen_logs
from bitdustfs.supplier import supplier_config
from bitdustfs.supplier.supplier_config import configured_offering, said_of

GIB = 1 << 30
GOOD = """# what this machine offers
[mount]
cache = "2G"
audits = 104857600
bandwidth = "up:1M/down:8M"
bootstrap = ["192.0.2.1:4000"]
durability = "published"

[supplier]
space = "50G"
listen = "0.0.0.0:4100"
for = ["anyone"]
trash_days = 1.5
bandwidth = 2097152
relay_rate = "1M"
relay_circuits = 16
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    level = logging.getLogger().level
    yield tmp_path / "config.toml"
    logging.getLogger().setLevel(level)


@pytest.fixture
def options(tmp_path, file):
    return MountOptions(tmp_path / "mnt", tmp_path / "key")


def test_without_a_file_all_is_as_it_is_anyway(options):
    assert with_configured(options) == options


def test_what_it_says_is_heeded_unless_the_command_line_says_otherwise(file, options, tmp_path):
    file.write_text(GOOD)
    made = with_configured(options)
    assert (made.cache, made.audits, made.published) == (2 * GIB, 100 << 20, True)
    assert made.bootstrap == ("192.0.2.1:4000",) and made.log == "info"
    assert str(made.bandwidth) == "up:1M/down:8M"
    words = ["mount", str(tmp_path), "-o", "cache=1G,durability=local"]
    said = parse_options(make_parser({"mount"}).parse_args(words))
    made = with_configured(said)
    assert (made.cache, made.audits, made.published) == (GIB, 100 << 20, False)


def test_the_network_of_the_house_is_left_alone_where_either_says_so(file, tmp_path):
    def lan(option):
        words = ["mount", str(tmp_path), *option]
        return with_configured(parse_options(make_parser({"mount"}).parse_args(words))).lan

    assert lan(()) and not lan(("-o", "lan=off"))
    file.write_text("[mount]\nlan = false\n")
    assert not lan(()) and lan(("-o", "lan=on"))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[mount]\ncache = 10X\n", 2, "at column"),
        ('[mount]\n\n# x\ncache = "10X"\n', 4, "'10X' is not a size"),
        ("[mount]\ncache = true\n", 2, "write a size"),
        ("[mount]\ncache = -1\n", 2, "write a size"),
        ("[mount]\naudits = 10\n", 2, "a day is the least"),
        ('[mount]\nbandwidth = "1M@8"\n', 2, "write for example 10M"),
        ("[mount]\nbandwidth = true\n", 2, "write bytes a second"),
        ('[supplier]\nspace = "1G"\n[mount]\nspase = "1G"\n', 4, "no word of [mount]"),
        ('[supplier]\ncache = 1\n[mount]\nlog = "loud"\n', 4, "write one of error, warning"),
        ('[mount]\nallow_other = "yes"\n', 2, "true or false"),
        ('[mount]\nbootstrap = "192.0.2.1:4000"\n', 2, "write a list"),
        ('[mount]\nbootstrap = [\n  "nowhere"\n]\n', 2, "HOST:PORT"),
        ("\n[mounts]\ncache = 1\n", 2, "no section"),
        ("cache = 1\n", 1, "no section"),
        ("mount.cache = true\n", 1, "write a size"),
        ("mount = {cache = true}\n", 1, "write a size"),
        ("[mount]\n'cache' = true\n", 2, "write a size"),
        ("[mount]\ncache = 1\ncache = 2\n", 3, "at column"),
        ("[mount]\ncache = \xff", 2, "UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, line, said, file, options):
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        with_configured(options)
    assert str(caught.value).startswith(f"{file}:{line}: "), caught.value
    assert said in str(caught.value)


def test_a_file_that_is_too_long_is_not_read(file, options):
    file.write_bytes(b"#" * (config.CONFIG_MAX + 1))
    with pytest.raises(UsageError, match="more than"):
        with_configured(options)


def test_a_mount_heeds_what_is_new_and_says_what_it_cannot(file, options, caplog):
    caplog.set_level(logging.INFO)
    file.write_text('[mount]\ncache = "2G"\n')
    reload, applied = MountReload(with_configured(options)), []
    file.write_text('[mount]\ncache = "1G"\nallow_other = true\nlog = "info"\n')
    reload.reread(applied.append)
    assert applied[-1].cache == GIB and not applied[-1].allow_other
    assert "allow_other has changed in config.toml: that needs a new mount" in caplog.text
    assert "new here: cache" in caplog.text
    file.write_text("[mount\n")
    reload.reread(applied.append)
    assert len(applied) == 1 and reload.options.cache == GIB
    assert f"all stays as it was: {file}:1:" in caplog.text
    file.unlink()
    reload.reread(applied.append)
    assert applied[-1].cache == options.cache


def test_what_the_command_line_said_stays_at_a_reload(file, options):
    reload, applied = MountReload(replace(options, cache=7, said=frozenset({"cache"}))), []
    file.write_text('[mount]\ncache = "1G"\naudits = "100M"\n')
    reload.reread(applied.append)
    assert (applied[-1].cache, applied[-1].audits) == (7, 100 << 20)


def test_a_supplier_is_what_its_words_say_then_the_file(file, tmp_path):
    with pytest.raises(UsageError, match="say --space 100G, or space in"):
        configured_offering(tmp_path, {})
    file.write_text(GOOD)
    made = configured_offering(tmp_path, {"space": GIB})
    assert (made.space, made.listen, made.customers) == (GIB, "0.0.0.0:4100", ("anyone",))
    assert made.bandwidth.rate("up", 0) == made.bandwidth.rate("down", 0) == 2 << 20
    assert made.trash_seconds == 1.5 * 86400 and said_of(made) == {"space": GIB}
    assert made.caps == (1 << 20, 16)
    for right, wrong, why in (
        ('relay_rate = "1M"', 'relay_rate = "1K"', ":15: relay_rate: .* 16K bytes a second"),
        ("relay_circuits = 16", "relay_circuits = true", ":16: relay_circuits: .* whole number"),
    ):
        file.write_text(GOOD.replace(right, wrong))
        with pytest.raises(UsageError, match=why):
            configured_offering(tmp_path, {})
    file.write_text(GOOD.replace("anyone", "everyone"))
    with pytest.raises(UsageError, match=":12: for: 'everyone' is not a vault"):
        configured_offering(tmp_path, {})


def test_every_word_that_is_live_is_a_word():
    for module in (mount_config, supplier_config):
        assert set(module.LIVE) < set(module.WORDS)
        for word in module.WORDS:
            assert f"    {word} = " in module.__doc__


def test_a_log_that_was_moved_away_goes_on_in_a_new_file(tmp_path):
    """In a process of its own: the log takes the standard streams."""
    path = tmp_path / "x.log"
    if (pid := os.fork()) == 0:
        try:
            handler = BoundedLog(path, 1 << 20)
            logging.getLogger().addHandler(handler)
            logging.getLogger("bitdustfs").warning("before")
            path.rename(tmp_path / "x.log.1")
            logging.getLogger("bitdustfs").warning("meanwhile")
            reopen_logs()
            logging.getLogger("bitdustfs").warning("after")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert "after" in path.read_text() and "before" not in path.read_text()
    assert "meanwhile" in (tmp_path / "x.log.1").read_text()
