"""From settings to what they name: repositories, keys, secrets, agents."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest
from strandline.agents.command import CommandAgent
from strandline.engine.app.build import choose_repository, make_agent, make_key, read_secret, with_environment
from strandline.engine.app.configuration import RepositorySettings, Settings, SourceSettings
from strandline.engine.base.errors import NotFound, Refused
from strandline.engine.base.secrets import SecretSource

MAIN = RepositorySettings("/main", key_file="k")
SETTINGS = Settings(repositories={"main": MAIN, "offsite": RepositorySettings("/offsite")}, default="main")


def test_a_repository_is_known_by_its_name_or_by_its_place():
    assert choose_repository(SETTINGS, "") is MAIN
    assert choose_repository(SETTINGS, "offsite").url == "/offsite"
    assert choose_repository(SETTINGS, "/elsewhere") == RepositorySettings("/elsewhere")
    assert choose_repository(SETTINGS, "./mian").url == "./mian"
    assert choose_repository(SETTINGS, "memory:").url == "memory:"


def test_a_misspelt_name_is_no_directory():
    with pytest.raises(NotFound, match="no repository is called `mian`") as caught:
        choose_repository(SETTINGS, "mian")

    assert caught.value.hint == "Did you mean `main`? A directory is written ./mian."


def test_where_no_name_is_known_a_word_is_a_directory():
    assert choose_repository(Settings(), "backups").url == "backups"


PLACE = RepositorySettings("/r")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, PLACE),
        ({"STRANDLINE_PASSPHRASE": ""}, PLACE),
        ({"STRANDLINE_PASSPHRASE": "x"}, RepositorySettings("/r", SecretSource(env="STRANDLINE_PASSPHRASE"))),
        ({"STRANDLINE_PASSPHRASE_FILE": "f"}, RepositorySettings("/r", SecretSource(file="f"))),
        ({"STRANDLINE_PASSPHRASE_COMMAND": "c"}, RepositorySettings("/r", SecretSource(command="c"))),
        ({"STRANDLINE_KEY_FILE": "k"}, RepositorySettings("/r", key_file="k")),
    ],
)
def test_the_environment_says_what_opens_it(environ, expected):
    assert with_environment(PLACE, environ=environ) == expected


def test_the_configuration_comes_first():
    assert with_environment(MAIN, environ={"STRANDLINE_PASSPHRASE": "x"}) is MAIN


def test_two_answers_are_none():
    with pytest.raises(Refused, match="both STRANDLINE_PASSPHRASE and STRANDLINE_KEY_FILE are set"):
        with_environment(PLACE, environ={"STRANDLINE_PASSPHRASE": "x", "STRANDLINE_KEY_FILE": "k"})


async def test_a_command_prints_a_secret():
    command = f"{sys.executable} -c \"print('hunter2')\""

    assert (await read_secret(SecretSource(command=command))).value == "hunter2"


async def test_a_command_that_fails_is_quoted():
    command = f"{sys.executable} -c \"import sys; sys.exit('the vault is locked')\""

    with pytest.raises(Refused, match=r"the vault is locked \(status=1\)"):
        await read_secret(SecretSource(command=command))


async def test_a_command_that_waits_for_ever_can_be_cancelled():
    with anyio.move_on_after(0.2) as scope:
        await read_secret(SecretSource(command="exec sleep 60"))

    assert scope.cancelled_caught


async def test_a_secret_must_be_there(tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(Refused) as caught:
        await read_secret(SecretSource(env="NOT_THERE"))
    assert caught.value.hint == "Set the environment variable NOT_THERE."
    with pytest.raises(Refused, match="cannot read the secret file"):
        await read_secret(SecretSource(file=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("of", "options", "said"),
    [
        ("source", {"password": SecretSource(env="NOT_THERE")}, "`password` of the source shop: a secret"),
        ("target", {"env": {"P": SecretSource(env="NOT_THERE")}}, "`env.P` of the target shop: a secret"),
        ("target", {"password": SecretSource(command="false")}, "`password` of the target shop: the command"),
    ],
)
async def test_a_secret_that_cannot_be_had_is_named(monkeypatch, of, options, said):
    monkeypatch.delenv("NOT_THERE", raising=False)
    kind = "command" if "env" in options else "mysql"
    with pytest.raises(Refused, match=said) as caught:
        await make_agent(SourceSettings("shop", kind, options, what=of))
    assert "NOT_THERE" in caught.value.hint or "command" in said


async def test_a_repositorys_passphrase_that_cannot_be_had_is_named(tmp_path):
    settings = RepositorySettings("/r", SecretSource(file=str(tmp_path / "none")))
    with pytest.raises(Refused, match="`passphrase` of the repository /r: cannot read the secret file"):
        await make_key(settings)


async def test_a_key_is_what_the_settings_say(tmp_path):
    file = tmp_path / "key"
    file.write_text(64 * "0" + "\n")
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")

    assert (await make_key(RepositorySettings("/r", key_file=str(file)))).material == bytes(32)
    key = await make_key(RepositorySettings("/r", SecretSource(file=str(passphrase))))
    assert (key.kind, key.material) == ("passphrase", b"correct horse")
    assert "horse" not in repr(key)


async def test_an_agents_secrets_are_read_when_it_is_made(monkeypatch):
    options: dict[str, Any] = {"command": "true", "env": {"PGPASSWORD": SecretSource(env="PG"), "LANG": "C"}}
    settings = SourceSettings("it", "command", options)
    monkeypatch.setenv("PG", "hunter2")

    agent = await make_agent(settings)

    assert isinstance(agent, CommandAgent)
    assert agent._settings.env == {"PGPASSWORD": "hunter2", "LANG": "C"}
    assert "hunter2" not in repr(settings)


async def test_what_is_missing_is_said_when_it_is_needed():
    settings = SourceSettings("it", "mysql", {}, missing="Run: pip install 'strandline[mysql]'")

    with pytest.raises(Refused, match="pip install"):
        await make_agent(settings)
