"""`bitdust vault rewind` on real mounts: what programs and thieves did is undone."""

import json
import random

import pytest
from asked import until


def rewound(world, ago, *words):
    """Goes back to what the vault was so many roots ago; what was said."""
    told = json.loads(world.run("vault", "rewind", "--json", *words).stdout)
    assert all(line["confirmed"] for line in told)
    return world.run("vault", "rewind", "--to", told[-ago]["name"], "--yes", *words).stdout


def fresh(world):
    """A vault with a retention, and what is in it."""
    bootstrap = (world.swarm / "bootstrap").read_text()
    key = world.home / "keys" / "vault.key"
    key.unlink()
    said = world.run(
        "vault", "create", "--ecc", "4/7", "--space", "2G", "--retain", "14d", "--bootstrap",
        bootstrap,
    ).stdout  # fmt: skip
    assert "for 14 days they keep what is deleted, and past roots: bitdust vault rewind" in said
    content = {"photo.jpg": random.Random(7).randbytes(3_000_000), "small": b"inline"}
    world.mount()
    for name, data in content.items():
        (world.mountpoint / name).write_bytes(data)
    world.run("unmount", world.mountpoint)
    return content


def seen(world):
    return {path.name: path.read_bytes() for path in world.mountpoint.iterdir()}


@pytest.mark.slow
def test_the_past_holds_against_the_key(world):
    content = fresh(world)
    bootstrap = world.move_to("thief")
    world.mount(bootstrap)
    for name in content:
        (world.mountpoint / name).unlink()
    (world.mountpoint / "ransom").write_bytes(b"pay")
    world.run("sync", world.mountpoint)
    world.run("vault", "set", "retain=0d")
    until(lambda: world.status()["retained"] > 2_000_000, 90, "nothing is killed")
    said = world.run("status", world.mountpoint).stdout
    assert "suppliers keep what is deleted, and past roots, by the retention of before: " in said
    world.run("unmount", world.mountpoint)
    ended = world.run("vault", "delete", "--yes").stdout
    assert "it keeps what it has until 20" in ended and "bitdust vault rewind brings it" in ended
    address = world.addresses[0]
    world.move_to("owner")
    listed = world.run("vault", "rewind", "--bootstrap", address).stdout
    assert "to go back to the last of them: bitdust vault rewind --to 20" in listed
    refused = world.run("vault", "rewind", "--to", "0" * 8, "--bootstrap", address, check=False)
    assert refused.returncode and "no supplier that answers shows 00000000" in refused.stderr
    refused = world.run("vault", "rewind", "--to", "1h", "--bootstrap", address, check=False)
    assert refused.returncode and "no root of that time" in refused.stderr
    assert "mount it as usual" in rewound(world, 1, "--bootstrap", address)
    world.mount()
    assert seen(world) == content
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    assert json.loads(world.run("vault", "set", "--json").stdout)["retain"] == 14 * 86400
    world.run("unmount", world.mountpoint)


def test_a_program_that_locked_all_files_is_undone_on_its_machine_and_that_too(world, long):
    if not long:
        pytest.skip("only with --long: t4_volume/test_rewind.py undoes it, too")
    content = fresh(world)
    world.mount()
    for name, data in content.items():
        (world.mountpoint / name).write_bytes(data[::-1])
        (world.mountpoint / name).rename(world.mountpoint / f"{name}.locked")
    refused = world.run("vault", "rewind", check=False)
    assert refused.returncode and "bitdust unmount first" in refused.stderr
    world.run("unmount", world.mountpoint)
    asked = world.run("vault", "rewind", "--to", "0.1s", stdin="n\n", check=False)
    assert asked.returncode == 1 and "The vault becomes what it was at 20" in asked.stderr
    said = rewound(world, 1)
    assert "what this machine had of the history that was left is in " in said
    world.mount()
    assert seen(world) == content
    world.run("unmount", world.mountpoint)
    rewound(world, 1)  # to what the program left
    world.mount()
    assert seen(world) == {f"{name}.locked": data[::-1] for name, data in content.items()}
