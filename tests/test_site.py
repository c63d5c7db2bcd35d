"""What the site makes from the code is all of it; the site builds, and asks nobody for anything."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import dcsnas
from dcsnas.config.search import FORMS, SEARCH_CONFIGS
from dcsnas.config.stages import TRAIN_CONFIGS
from dcsnas.spaces.attention import KINDS
from generators import commands, configuration, facade, files, messages, models

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MESSAGES = (DOCS / "messages.md").read_text(encoding="utf-8")


configuration_page = cache(lambda: configuration.page(""))


# commands


def test_every_command_and_option_says_what_it_does() -> None:
    listed = list(commands.walk())
    assert len(listed) > 25
    for path, command, _ in listed:
        assert command.help, path
        for parameter in command.params:
            assert parameter.help, f"{path}: {parameter.name}"


def test_page_of_commands_has_each_with_its_options() -> None:
    page = commands.page("")
    for path, command, _ in commands.walk():
        section = page.split(f"\n## {path}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.help
            assert shown in section, f"{path}: {shown}"
        assert f"$ {path}" in section or not command.help.count("Example:")


# configuration


def test_every_key_says_what_it_means() -> None:
    assert configuration.undescribed() == []


def keys_in(content: Any, prefix: str = "") -> Iterator[str]:
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        yield f"{prefix}{key}"
        yield from keys_in(value, f"{prefix}{key}.")


SHIPPED = sorted((ROOT / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_keys_of_shipped_files_are_on_the_page(path: Path) -> None:
    page = configuration_page()
    found = list(keys_in(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert found
    terms = {key for line in page.splitlines() for key in re.findall(r"`([\w.]+)`", line)
             if line.startswith("`")}  # fmt: skip
    assert [key for key in found if key not in terms] == []


def test_registered_configurations_are_on_the_page() -> None:
    page = configuration_page()
    models = [*SEARCH_CONFIGS.values(), *TRAIN_CONFIGS.values(), *FORMS.values()]
    models += [kind.arguments for kind in KINDS.values() if kind.arguments.model_fields]
    for model in models:
        assert f"(config-{model.__name__})=" in page, model.__name__
    assert set(re.findall(r"\(#(config-\w+)\)", page)) <= set(
        re.findall(r"^\((config-\w+)\)=", page, re.M)
    )


def test_types_defaults_and_meanings_are_told() -> None:
    page = configuration_page()
    assert "`loss.eta`\n: number ≥ 0; default `0.1`\n\n  Weight of the" in page
    assert "`run.device`\n: `auto` or `cpu` or `cuda`; default `auto`" in page
    assert "default: its own, but `{name: adam, lr: 0.00035, milestones: [0.5, 0.75]}`" in page
    assert "`table`\n: path; required" in page


# files


def test_keys_of_a_shipped_table_are_on_the_page() -> None:
    page = files.page("table")
    (table, *_) = sorted((ROOT / "latency_tables").glob("tiny-*b1.json"))
    content = json.loads(table.read_text(encoding="utf-8"))
    keys = [*content, *content["conditions"], *content["calibration"]]
    keys += list(next(iter(content["entries"].values())))
    assert [key for key in keys if f"`{key}`\n: " not in page and key != "digest"] == []


def test_every_key_of_a_written_file_says_what_it_means() -> None:
    silent = [
        f"{model.__name__}.{name}"
        for parts in files.FILES.values()
        for model in parts
        for name in model.model_fields
        if not models.meaning(model, name)
    ]
    assert silent == []


# Python


def test_every_name_of_the_facade_is_on_the_page() -> None:
    page = facade.page("names")
    assert [name for name in dcsnas.__all__ if f"### dn.{name}\n" not in page] == []


# messages

PASSED_ON = {
    "data.workers", "data.reid", "data.sets.folders", "data.sets.layouts", "doctor.machine",
    "experiments.trial", "experiments.trial_inputs", "latency.backends.backend", "latency.table",
    "plots.gallery", "spaces.attention", "spaces.network", "spaces.slots", "spaces.space",
    "training.ablation.settings", "training.process_failures", "config.strict",
    "cli.main", "cli.options", "config.interrupts", "config.last_word",
    "experiments.remote", "torchrun",
    "training.checkpoint", "training.processes",
}  # fmt: skip
"""Modules that say what another one has worded, with a place before it; or end without words."""


def test_every_message_is_collected_or_worded_elsewhere() -> None:
    silent = {call.module.removeprefix("dcsnas.") for call in messages.calls() if not call.message}
    assert silent == PASSED_ON


def test_no_raise_of_a_user_error_is_overlooked() -> None:
    """Lines that call UserError, counted as text, are those that were found in the tree."""
    seen = {(call.module, call.line) for call in messages.calls()}
    missed = []
    for file in sorted((ROOT / "dcsnas").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"\braise (User|InUse)Error\(", line) and not any(
                (module, near) in seen for near in range(number, number + 5)
            ):
                missed.append(f"{file.name}:{number}")
    worded = re.compile(r"raise UserError\(_?\w+\(|raise UserError\(self\._")
    assert [one for one in missed if not worded.search(line_of(one))] == []


def line_of(place: str) -> str:
    name, number = place.split(":")
    (file,) = (ROOT / "dcsnas").rglob(name)
    return file.read_text(encoding="utf-8").splitlines()[int(number) - 1]


def sections() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (title, explanation, modules) of every section of the page with messages."""
    parts = re.split(r"^## (.+)$", MESSAGES, flags=re.M)
    return [
        (title, text.split("<!-- made")[0], messages.modules_of(mark[1]))
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
        if (mark := messages.MARK.search(text))
    ]


def test_every_message_is_in_one_section() -> None:
    homes = [module for _, _, modules in sections() for module in modules]
    for message in messages.collected():
        found = [home for home in homes if messages.belongs(message.module, home)]
        assert len(found) == 1, f"{message.module}: {message.fixed}: sections {found}"


@pytest.mark.parametrize("section", sections(), ids=lambda section: section[0])
def test_section_explains_and_names_modules_that_are_there(section: Any) -> None:
    title, explanation, modules = section
    assert len(explanation.split()) > 25, title
    assert "](" in explanation or "`dcsnas" in explanation or title.startswith("Files"), title
    for module in modules:
        place = ROOT / module.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").exists(), module


def test_anchors_are_those_of_one_message_each() -> None:
    found: dict[str, str] = {}
    for message in messages.collected():
        assert found.setdefault(message.anchor, message.fixed) == message.fixed
    assert len(found) > 300


def test_a_message_has_its_words_and_the_names_of_what_is_filled_in() -> None:
    (known,) = (m for m in messages.collected() if "exists already; give another --out" in m.fixed)
    assert known.parts == (
        "", "path", ": exists already; give another --out, or --force to replace it",
    )  # fmt: skip
    assert known.anchor.startswith("exists-already-give-another-out-or")
    assert "<samp><var>path</var>: exists already;" in known.html()


# the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site; a warning fails."""
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", str(DOCS), out],
        capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_site_builds_and_asks_nobody(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in [*pages, *site.rglob("*.css"), *site.rglob("*.js")]:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"""(?:src|@import|url)\s*[=(]?\s*["']?(https?://[^"')\s]+)""", text)
        assert [one for one in loaded if "w3.org" not in one] == [], page.name
        for link in re.findall(r"<link[^>]+href=\"(https?:[^\"]+)", text):
            raise AssertionError(f"{page.name}: {link}")


@pytest.mark.slow
def test_formulas_are_mathml_without_leftovers(site: Path) -> None:
    texts = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    formulas = [one for text in texts for one in re.findall(r"<math.*?</math>", text, re.S)]
    assert len(formulas) > 50
    assert [formula for formula in formulas if "\\" in formula] == []


@pytest.mark.slow
def test_nothing_of_the_sources_marks_is_left(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert "made: " not in re.sub(r"<(p|code|pre|span)[^>]*>", "", page.read_text("utf-8"))
