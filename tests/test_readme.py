"""What the README says is true: its example runs, its table of exit codes is the product's."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from strandline.engine.app.exits import MEANINGS
from strandline.engine.app.report import event_type
from strandline.engine.app.settings import PricesTable, S3Table, parse_settings
from strandline.engine.base.events import Event

import strandline

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_example_backs_up_three_sources_at_once_under_one_budget(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names: dict[str, Any] = {}
    exec(compile(block("python"), "README.md", "exec"), names)
    sources = {}
    for name in ("one", "two", "three"):
        sources[name] = tmp_path / name
        sources[name].mkdir()
        (sources[name] / "dump.sql").write_bytes(name.encode() * 500_000)
    place = str(tmp_path / "repository")
    key = strandline.Key.passphrase("correct horse battery staple")
    await strandline.init_repository(place, key=key)

    snapshots = await names["back_up"](place, sources)

    assert len(set(snapshots)) == 3
    async with strandline.open_repository(place, key=key) as repo:
        for name, directory in sources.items():
            await strandline.restore(repo, series=name, to=tmp_path / "restored" / name)
            restored = (tmp_path / "restored" / name / "dump.sql").read_bytes()
            assert restored == (directory / "dump.sql").read_bytes()


def test_the_table_of_exit_codes_is_the_products() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE))

    assert {int(code): meaning for code, meaning in rows.items()} == MEANINGS


def test_the_configuration_in_the_readme_is_valid() -> None:
    settings = parse_settings(block("toml"))

    assert set(settings.sources) == {"shop", "dumps", "app", "ldap"}
    assert set(settings.targets) == {"fresh"}


def test_every_key_of_a_bucket_stands_in_the_readme_but_those_that_exclude_each_other() -> None:
    (text,) = re.findall(r"```toml\n(\[repositories\.offsite\].*?)```", README, re.DOTALL)
    options = parse_settings(text).repository().options

    assert set(options) == set(S3Table.__struct_encode_fields__) - {"profile"}


def test_every_price_stands_in_the_readme() -> None:
    (table,) = re.findall(r"```toml\n\[repositories\.offsite\.prices\](.*?)```", README, re.DOTALL)
    prices = parse_settings(f'[repositories.offsite]\nurl = "/r"\n[repositories.offsite.prices]{table}')

    assert re.findall(r"^(\w+) =", table, re.MULTILINE) == list(PricesTable.__struct_encode_fields__)
    assert prices.repository().prices is not None


def test_every_event_and_each_of_its_fields_stands_in_the_readme() -> None:
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", README, re.MULTILINE)
    described = {kind: words for kinds, words in rows for kind in re.findall(r"`(\w+)`", kinds)}

    for event in Event.__subclasses__():
        words = described[event_type(event)]
        missing = (
            {field.name for field in fields(event)}
            - set(re.findall(r"`(\w+)`", words))
            - {"source", "account"}
        )
        assert not missing, event


def test_every_result_stands_in_the_readme() -> None:
    app = Path(__file__).parent.parent / "engine" / "app"
    written = set(
        re.findall(r'json\.line\(\s*"(\w+)"', "".join(path.read_text() for path in app.glob("*.py")))
    )

    assert len(written) > 5
    assert all(f"`{kind}`" in README for kind in written)
