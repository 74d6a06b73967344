"""What may stand in `strandline.toml`, and the words for what may not."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from strandline.agents.errors import AgentError
from strandline.agents.registry import UnknownKind
from strandline.engine.app import settings as settings_module
from strandline.engine.app.configuration import RepositorySettings, Settings
from strandline.engine.app.settings import find_settings, parse_settings, read_settings
from strandline.engine.base.costs import Prices
from strandline.engine.base.errors import BadConfiguration, NotFound
from strandline.engine.base.secrets import SecretSource
from strandline.store.hours import Hours, RateByHour
from strandline.store.s3_settings import MIB

MAIN = '[repositories.main]\nurl = "/r"\n'
SHOP = MAIN + '[sources.shop]\nkind = "mysql"\n'
FILES = MAIN + '[sources.dumps]\nkind = "files"\n'
TOOL = MAIN + '[sources.tool]\nkind = "command"\ncommand = "true"\n'


def test_everything_has_its_place():
    found = parse_settings(
        SHOP
        + 'password = { env = "SHOP" }\nport = 3307\nrepository = "main"\ngrain = "8KiB"\nstaging = "/var/tmp"\n'
        + '[targets.fresh]\nkind = "mysql"\npassword = { command = "pass shop" }\n'
        + '[defaults]\nmemory = "1GiB"\nrepository = "main"\n'
    )

    shop = found.source("shop")
    assert (shop.kind, shop.repository, shop.grain, shop.staging) == ("mysql", "main", 8192, Path("/var/tmp"))
    assert shop.options == {"password": SecretSource(env="SHOP"), "port": 3307}
    assert found.target("fresh").options == {"password": SecretSource(command="pass shop")}
    assert (shop.what, found.target("fresh").what) == ("source", "target")
    assert found.memory == 1 << 30
    assert found.repository() == RepositorySettings("/r")


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("[repositorys.main]\n", 1, "unknown key `repositorys`", "Did you mean `repositories`?"),
        (SHOP + "\npasword = 1\n", 6, "unknown key `pasword`", "Did you mean `password`?"),
        (SHOP + "zzzz = 1\n", 5, "unknown key `zzzz`", "Known here: host, port,"),
        (MAIN + "urls = 1\n", 3, "unknown key `urls`", "Did you mean `url`?"),
        (MAIN + 'passphrase = { evn = "X" }\n', 3, "unknown key `evn`", "Did you mean `env`?"),
        (SHOP + 'port = "3307"\n', 5, "`port` must be a whole number, not text in quotes", ""),
        (
            FILES + 'paths = [\n  "a",\n  3]\n',
            7,
            "`paths`, element 2, must be text in quotes, not a whole",
            "",
        ),
        (FILES + 'paths = "a"\n', 5, "`paths` must be a list [..], not text in quotes", ""),
        (TOOL.replace('"true"', "1"), 5, "`command` must be text in quotes or a list [..]", ""),
        (FILES + 'stream_kind = "pags"\n', 5, "`stream_kind` cannot be `pags`", "Did you mean `pages`?"),
        (FILES + 'stream_kind = "x"\n', 5, "`stream_kind` cannot be `x`", "It is one of dump, pages, log."),
        (FILES + 'settle = "5"\n', 5, "`settle` must be a number, not text", ""),
        (FILES + 'page_size = "large"\n', 5, "`page_size`: not a size: 'large'; write it like 256MiB", ""),
        (MAIN + "default = 1\n", 3, "`default` must be true or false, not a whole number", ""),
        ("\n[repositories.main]\nkey_file = 'k'\n", 2, "[repositories.main] has no `url`", ""),
        ("[repositories.main]\nurl = ''\n", 2, "`url` is empty", ""),
        (MAIN + '[sources.shop]\nhost = "h"\n', 3, "[sources.shop] has no `kind`", ""),
        (MAIN + '[sources.shop]\nkind = "mysq"\n', 4, "no kind of source is called `mysq`", "mysql"),
        (
            MAIN + '[sources.shop]\nkind = "dbase"\n',
            4,
            "no kind of source is called `dbase`",
            "Known are command,",
        ),
        (SHOP + 'repository = "man"\n', 5, "no repository is called `man`", "Did you mean `main`?"),
        ('[defaults]\nrepository = "x"\n', 2, "no repository is called `x`", ""),
        ('[defaults]\nmemory = "lots"\n', 2, "`memory`: not a size: 'lots'", ""),
        (SHOP + 'grain = "1KiB"\n', 5, "`grain`: a grain is 2048 to", ""),
        (SHOP + 'grain = "8 whales"\n', 5, "`grain`: not a size", ""),
        (SHOP + 'compression = "hihg"\n', 5, "no compression is called `hihg`", "Did you mean `high`?"),
        (SHOP + 'dedup = ""\n', 5, "`dedup`: a dedup domain without a name", "or a group's name"),
        ("sources = 3\n", 1, "`sources` must be a table", ""),
        ("[sources]\nshop = 3\n", 2, "[sources] holds tables: write [sources.NAME]", ""),
        ('[sources.""]\nkind = "files"\n', 1, "an empty name in [sources]", ""),
        (
            MAIN + "default = true\n[repositories.b]\nurl = 'b'\ndefault = true\n",
            6,
            "`main` is the default repository already",
            "",
        ),
        (
            MAIN + "key_file = 'k'\npassphrase = { env = 'X' }\n",
            3,
            "has either `passphrase` or `key_file`",
            "",
        ),
        ("a = 1\na = 2\n", 2, "not valid TOML: Cannot overwrite a value", ""),
        ("[a]\n\n[a]\n", 3, "not valid TOML: Cannot declare ('a',) twice", ""),
        ("a = 1\n\nb = \n", 3, "not valid TOML: Invalid value", ""),
        ("a = 1\nb = [1,\n", 2, "not valid TOML", ""),
    ],
)
def test_an_error_names_the_line_the_key_and_what_was_meant(text, line, says, hint):
    with pytest.raises(BadConfiguration) as caught:
        parse_settings(text, "the.toml")

    assert str(caught.value).startswith(f"the.toml, line {line}: ")
    assert says in str(caught.value)
    assert hint in caught.value.hint


BUCKET = '[repositories.main]\nurl = "s3://bucket/prefix"\n'
KEYS = BUCKET + 'access_key = { env = "A" }\nsecret_key = { file = "/s" }\n'


def test_a_bucket_has_its_place():
    found = parse_settings(
        KEYS
        + 'session_token = { command = "token" }\nendpoint = "https://s3.example.org"\nregion = "eu-central-1"\n'
        + 'addressing = "virtual"\nca_bundle = "/ca.pem"\nstorage_class = "STANDARD_IA"\nchecksums = false\n'
        + 'server_side_encryption = "aws:kms"\nkms_key = "alias/x"\nconditional_writes = true\nrequests = 8\n'
        + 'upload_limit = ["08:00-18:00 2MiB", "20MiB"]\ndownload_limit = "1GiB"\n'
        + 'request_limit = ["22:00-06:00 100", "0.5"]\n'
    ).repository()

    assert found.options == {
        "access_key": SecretSource(env="A"),
        "secret_key": SecretSource(file="/s"),
        "session_token": SecretSource(command="token"),
        "endpoint": "https://s3.example.org",
        "region": "eu-central-1",
        "addressing": "virtual",
        "ca_bundle": "/ca.pem",
        "storage_class": "STANDARD_IA",
        "checksums": False,
        "server_side_encryption": "aws:kms",
        "kms_key": "alias/x",
        "conditional_writes": True,
    }
    assert found.requests == 8
    assert found.upload_limit == RateByHour([Hours(480, 1080, 2.0 * MIB), Hours(0, 1440, 20.0 * MIB)])
    assert found.download_limit == RateByHour([Hours(0, 1440, 1024.0 * MIB)])
    assert found.request_limit == RateByHour([Hours(1320, 360, 100.0), Hours(0, 1440, 0.5)])


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (MAIN + 'region = "x"\n', 3, "only an s3: URL has `region`"),
        (MAIN + 'url = "s3://bucket"\n', 3, "not valid TOML"),
        ('[repositories.main]\nurl = "s3:bucket"\n', 2, "`url`: write it as s3://bucket/prefix"),
        ('[repositories.main]\nurl = "s3://bucket/a//b"\n', 2, "`url`: not a prefix"),
        ('[repositories.main]\nurl = "s3://-/b"\n', 2, "`url`: not a bucket's name"),
        (BUCKET + 'endpiont = "x"\n', 3, "unknown key `endpiont`"),
        (BUCKET + 'endpoint = "x"\n', 3, "`endpoint`: not an endpoint: 'x'; write it like https://"),
        (BUCKET + 'access_key = { env = "A" }\n', 3, "`access_key`: an access key and a secret key belong"),
        (BUCKET + 'secret_key = { env = "A" }\n', 3, "`secret_key`: an access key and a secret key belong"),
        (BUCKET + 'secret_key = "hunter2"\n', 3, "a secret_key never stands in the file"),
        (BUCKET + 'access_key = "AKIA"\n', 3, "a access_key never stands in the file"),
        (KEYS + 'profile = "x"\n', 5, "`profile`: credentials come either from a profile or"),
        (
            BUCKET + 'addressing = "pth"\n',
            3,
            "`addressing`: addressing cannot be 'pth'; it is one of auto, path",
        ),
        (BUCKET + 'storage_class = "DEEP_ARCHIVE"\n', 3, "`storage_class`: DEEP_ARCHIVE cannot be read"),
        (BUCKET + 'kms_key = "x"\n', 3, "`kms_key`: a KMS key needs"),
        (
            BUCKET + "conditional_writes = 1\n",
            3,
            "`conditional_writes` must be true or false, not a whole number",
        ),
        (MAIN + "requests = 0\n", 3, "`requests` must be at least 1"),
        (MAIN + 'upload_limit = "fast"\n', 3, "`upload_limit`: not a size"),
        (MAIN + 'upload_limit = [\n"1MiB",\n"8-18 1MiB"]\n', 5, "`upload_limit`: not hours: '8-18'"),
        (MAIN + 'request_limit = "1MiB"\n', 3, "`request_limit`: not a number of requests"),
        (MAIN + "request_limit = 0\n", 3, "`request_limit`: with nothing a second"),
        (MAIN + "request_limit = -1\n", 3, "`request_limit`: not a number of requests"),
        (MAIN + 'download_limit = "0"\n', 3, "`download_limit`: with nothing a second"),
    ],
)
def test_a_mistake_about_a_bucket_is_told_with_its_line(text, line, says):
    with pytest.raises(BadConfiguration) as caught:
        parse_settings(text, "the.toml")

    assert str(caught.value).startswith(f"the.toml, line {line}: ")
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value) + caught.value.hint


PRICES = MAIN + "[repositories.main.prices]\n"


def test_a_repository_has_the_prices_of_its_provider():
    found = parse_settings(
        PRICES
        + 'currency = "USD"\nwrite_requests = 0.005\nread_requests = 0.0004\ndelete_requests = 0\nupload = 0\n'
        + 'download = 0.09\nretrieval = 0.01\nstorage = 0.0125\nminimum_size = "128KiB"\nunit = "GiB"\n'
    ).repository()

    assert found.prices == Prices(
        currency="USD",
        write_requests=Decimal("0.005"),
        read_requests=Decimal("0.0004"),
        download=Decimal("0.09"),
        retrieval=Decimal("0.01"),
        storage=Decimal("0.0125"),
        minimum_size=128 << 10,
        gigabyte=1 << 30,
    )


def test_no_price_is_known_without_being_told():
    assert parse_settings(MAIN).repository().prices is None
    assert parse_settings(PRICES + 'currency = "EUR"\n').repository().prices == Prices(currency="EUR")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (MAIN + "prices = 5\n", 3, "`prices` must be a table {..}, not a whole number"),
        (PRICES + "storage = 1\n", 3, "[repositories.main.prices] has no `currency`"),
        (PRICES + "currency = 1\n", 4, "`currency` must be text in quotes"),
        (PRICES + 'currency = " "\n', 4, "`currency` is empty"),
        (PRICES + 'currency = "USD"\nstorge = 1\n', 5, "unknown key `storge`"),
        (PRICES + 'currency = "USD"\nstorage = true\n', 5, "`storage` must be a number, not true or false"),
        (PRICES + 'currency = "USD"\nstorage = "cheap"\n', 5, "`storage` must be a number"),
        (PRICES + 'currency = "USD"\n\ndownload = -0.01\n', 6, "`download`: -0.01 is no price"),
        (PRICES + 'currency = "USD"\nupload = inf\n', 5, "`upload`: Infinity is no price"),
        (PRICES + 'currency = "USD"\nupload = nan\n', 5, "`upload`: NaN is no price"),
        (PRICES + 'currency = "USD"\nminimum_size = "big"\n', 5, "`minimum_size`: not a size"),
        (PRICES + 'currency = "USD"\nunit = "TB"\n', 5, "`unit` cannot be `TB`"),
    ],
)
def test_a_mistake_about_prices_is_told_with_its_line(text, line, says):
    with pytest.raises(BadConfiguration) as caught:
        parse_settings(text, "the.toml")

    assert str(caught.value).startswith(f"the.toml, line {line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (MAIN + 'passphrase = "hunter2"\n', 3, "passphrase"),
        (SHOP + 'password = "hunter2"\n', 5, "password"),
        (TOOL + '[sources.tool.env]\nHOME = "/"\nPGPASSWORD = "hunter2"\n', 8, "PGPASSWORD"),
        (TOOL + 'env = { MYSQL_PWD = "hunter2" }\n', 6, "MYSQL_PWD"),
        (MAIN + '[targets.t]\nkind = "mysql"\npassword = "hunter2"\n', 5, "password"),
    ],
)
def test_a_secret_never_stands_in_the_file(text, line, key):
    with pytest.raises(BadConfiguration, match=f"line {line}: a {key} never stands in the file") as caught:
        parse_settings(text)

    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert '{ env = "NAME" }' in caught.value.hint


def test_a_password_does_not_stand_in_a_url_either():
    with pytest.raises(
        BadConfiguration, match="line 2: a password never stands in the file, nor in a URL"
    ) as caught:
        parse_settings('[repositories.main]\nurl = "s3://user:hunter2@bucket"\n')

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["3", "{}", '{ env = "A", file = "b" }', '{ env = "" }', "{ env = 3 }", '["x"]']
)
def test_a_secret_is_one_of_three(value):
    with pytest.raises(BadConfiguration, match=r"line 5: `password` must be (just one of )?\{ env"):
        parse_settings(f"{SHOP}password = {value}\n")


def test_an_agent_marks_its_secrets(monkeypatch):
    class Marked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        pin: Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})] = ""

    monkeypatch.setattr(settings_module, "agent_classes", lambda kind: (Marked, object))

    with pytest.raises(BadConfiguration, match="line 5: a pin never stands in the file"):
        parse_settings(SHOP + 'pin = "1234"\n')
    assert parse_settings(SHOP + 'pin = { env = "PIN" }\n').source("shop").options == {
        "pin": SecretSource(env="PIN")
    }


def test_sizes_of_an_agent_have_units():
    assert parse_settings(FILES + 'page_size = "16KiB"\n').source("dumps").options["page_size"] == 16384
    assert parse_settings(FILES + "page_size = 512\n").source("dumps").options["page_size"] == 512


def test_a_missing_driver_is_not_missed_before_it_is_used(monkeypatch):
    """A machine that only restores files reads the same file as the one that dumps."""

    def without(kind: str) -> None:
        raise UnknownKind(
            "a mysql source needs the Python package x", hint="Run: pip install 'strandline[mysql]'"
        )

    monkeypatch.setattr(settings_module, "agent_classes", without)

    found = parse_settings(SHOP + 'password = { env = "X" }\nanything = 1\n')

    assert "pip install" in found.source("shop").missing
    with pytest.raises(BadConfiguration, match="never stands"):
        parse_settings(SHOP + 'password = "x"\n')


def test_unknown_kinds_are_agents_errors():
    """The reader catches no more than this."""
    assert issubclass(UnknownKind, AgentError)


TWO = MAIN + "[repositories.other]\nurl = '/o'\n"


def test_the_only_repository_is_the_default_one():
    assert parse_settings(MAIN).repository().url == "/r"


@pytest.mark.parametrize("text", [TWO + "default = true\n", TWO + "[defaults]\nrepository = 'other'\n"])
def test_the_default_repository_can_be_named(text):
    assert parse_settings(text).repository().url == "/o"


def test_without_a_default_one_must_be_chosen():
    with pytest.raises(NotFound, match="several repositories are configured") as caught:
        parse_settings(TWO).repository()

    assert "main, other" in caught.value.hint
    assert parse_settings(TWO).repository("main").url == "/r"


def test_what_is_not_there_is_said_with_what_was_meant():
    with pytest.raises(NotFound, match="no repository is configured"):
        Settings().repository()
    with pytest.raises(NotFound, match="no source is called `shpo`") as caught:
        parse_settings(SHOP).source("shpo")
    assert caught.value.hint == "Did you mean `shop`?"
    with pytest.raises(NotFound, match="no target is called `fresh`"):
        parse_settings(SHOP).target("fresh")


def write(path: Path, url: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[repositories.main]\nurl = "{url}"\n')
    return path


def test_the_nearest_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explicit = write(tmp_path / "a.toml", "explicit")
    named = write(tmp_path / "b.toml", "named")
    user = write(tmp_path / "home" / ".config" / "strandline" / "strandline.toml", "user")
    environ = {"STRANDLINE_CONFIG": str(named)}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert find_settings(str(explicit), environ=environ).repository().url == "explicit"
    assert find_settings(environ=environ).repository().url == "named"
    assert find_settings(environ={}).repository().url == "user"
    assert find_settings(environ={"XDG_CONFIG_HOME": str(user.parent.parent)}).repository().url == "user"
    write(tmp_path / "strandline.toml", "here")
    assert find_settings(environ={}).repository().url == "here"


def test_a_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(BadConfiguration, match=r"cannot read .*none\.toml: No such file") as caught:
        find_settings(str(tmp_path / "none.toml"), environ={})
    assert "--config" in caught.value.hint


def test_a_file_must_be_text(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"a = '\xff'\n")

    with pytest.raises(BadConfiguration, match="not UTF-8 text: invalid start byte at byte 5"):
        read_settings(path)
