"""The documents say what the code does: links, commands, columns, defaults, numbers and words."""

from __future__ import annotations

import csv
import doctest
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

from doseledger import __version__
from doseledger.cli import app
from doseledger.io.models import SHEETS, Config, parse_config
from doseledger.io.sheets import load_plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "config/README.md", ROOT / "envs/README.md"])
CAPTIONS = sorted((ROOT / "workflow/report").glob("*.rst"))
#: Everything that a reader or a machine takes words, paths or settings from.
TEXTS = [
    *PAGES,
    *CAPTIONS,
    *sorted((ROOT / "config").glob("*.tsv")),
    ROOT / "config/config.yaml",
    ROOT / "CITATION.cff",
    ROOT / ".snakemake-workflow-catalog.yml",
    ROOT / "envs/doseledger.def",
    ROOT / "envs/torch.txt",
]
NOTICE = "not a medical device"
#: A machine's own places, and options or addresses of a package index.
FOREIGN = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users)/|index-url|https?://\S+/simple\b")
#: Terms of older dosimetry, and quantities that make no sense in therapy.
FORBIDDEN = re.compile(r"\bmsv\b|residence time|cumulated activity|(?<!biologically )effective dose\b", re.IGNORECASE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def fenced(path: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(path)) if kind == language]


# What every page keeps ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, *CAPTIONS], ids=name_of)
def test_the_page_says_that_it_is_no_medical_device(path: Path) -> None:
    assert NOTICE in " ".join(text_of(path).lower().split())


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_place_of_a_machine_and_no_address_of_an_index(path: Path) -> None:
    assert not FOREIGN.findall(text_of(path))


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_the_terms_are_those_of_the_field(path: Path) -> None:
    assert not FORBIDDEN.findall(" ".join(text_of(path).split()))


def test_the_locks_have_hashes_but_no_addresses() -> None:
    lock = text_of(ROOT / "envs/lock.txt")
    assert "://" not in lock
    assert re.search(r"^--", lock, re.MULTILINE) is None, "an option of pip in the lock"
    assert not re.search(r"^(torch|triton|nvidia[\w-]*)==", lock, re.MULTILINE)
    pins = [line for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert len(pins) > 50
    assert all("==" in line and line.endswith("\\") for line in pins), "a pin without a hash"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(path: Path) -> set[str]:
    """Anchors that the usual renderers make of headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# README and commands ------------------------------------------------------------------------------


def test_a_new_user_needs_two_commands_in_one_block() -> None:
    blocks = [body.split("\n") for _, body in FENCE.findall(text_of(ROOT / "README.md")) if "make " in body]
    assert blocks == [["make demo", "make test", ""]]


def test_the_readme_keeps_the_place_of_the_demo_table() -> None:
    text = text_of(ROOT / "README.md")
    section = text.split("## Dose against truth in the demo", 1)[1].split("\n## ", 1)[0]
    assert section.count("<!-- demo-table -->") == 1


def documented_commands() -> Iterator[tuple[str, list[str]]]:
    """Page, and the words after ``doseledger`` in code."""
    for path in PAGES:
        text = text_of(path)
        lines = [line for language in ("sh", "text") for body in fenced(path, language) for line in body.splitlines()]
        lines += re.findall(r"`(doseledger [^`]+)`", FENCE.sub("", text))
        for line in lines:
            words = line.split()
            if words and words[0] == "doseledger" and len(words) > 1:
                yield name_of(path), words[1:]


def commands() -> dict[str, set[str]]:
    """Options of each command of the program."""
    group: Any = typer.main.get_command(app)
    return {
        name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        for name, command in group.commands.items()
    }


def test_every_documented_command_exists_and_every_command_is_documented() -> None:
    known = commands()
    seen = set()
    for page, words in documented_commands():
        if words[0].startswith("-"):
            continue
        assert words[0] in known, (page, words)
        assert {word for word in words if word.startswith("--")} <= known[words[0]], (page, words)
        seen.add(words[0])
    assert seen == set(known)


def test_options_in_the_command_table_exist() -> None:
    known = commands()
    rows = re.findall(r"^\| `doseledger ([\w-]+)[^`]*` \| (.*) \|$", text_of(ROOT / "README.md"), re.MULTILINE)
    assert {command for command, _ in rows} == set(known)
    for command, words in rows:
        assert set(re.findall(r"--[a-z-]+", words)) <= known[command], command


def test_every_make_target_named_in_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for path in PAGES:
        named = set(re.findall(r"`make ([a-z]+)`", text_of(path)))
        named |= {n for body in fenced(path, "sh") for n in re.findall(r"^make ([a-z]+)$", body, re.MULTILINE)}
        assert named <= targets, name_of(path)


# Numbers in the theory ----------------------------------------------------------------------------


def test_the_examples_of_the_theory_give_what_they_say() -> None:
    path = ROOT / "docs/theory.md"
    text = text_of(path)
    globs: dict[str, Any] = {}
    examples = 0
    for match in re.finditer(r"^```pycon\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(1))
        test = doctest.DocTestParser().get_doctest(match[1], globs, path.name, str(path), line)
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        report: list[str] = []
        result = runner.run(test, clear_globs=False, out=report.append)
        assert result.failed == 0, "".join(report)
        examples += result.attempted
        globs = test.globs
    assert examples > 50


# Config and sheets --------------------------------------------------------------------------------


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    shutil.copytree(ROOT / "config", folder)
    return folder


def test_the_templates_are_a_valid_cohort(templates: Path) -> None:
    config = yaml.safe_load(text_of(templates / "config.yaml"))
    plan = load_plan(config, templates)
    assert [cycle.problems for cycle in plan.cycles.values()] == [()] * len(plan.cycles)
    assert len(plan.imaged) == 2
    assert len(plan.cycles) == 3, "the example has a cycle without scans"
    assert plan.limits
    assert set(plan.patients) == {("A", "P1"), ("A", "P2")}


def test_a_spoilt_template_is_noticed(templates: Path) -> None:
    sheet = templates / "cameras.tsv"
    sheet.write_text(text_of(sheet).replace("\t12\t", "\t120\t"))
    plan = load_plan(yaml.safe_load(text_of(templates / "config.yaml")), templates)
    assert {problem["tag"] for cycle in plan.cycles.values() for problem in cycle.problems} == {"fwhm_mm"}


def test_the_template_config_spells_out_the_defaults() -> None:
    written = yaml.safe_load(text_of(ROOT / "config/config.yaml"))
    needed = {k: written[k] for k, f in Config.model_fields.items() if f.is_required()}
    assert parse_config(written) == parse_config(needed)
    sections = parse_config(needed).stage_settings()
    assert {name: set(written[name]) for name in sections} == {name: set(keys) for name, keys in sections.items()}


@pytest.mark.parametrize("sheet", SHEETS)
def test_the_template_has_all_columns_of_its_sheet(sheet: str) -> None:
    with (ROOT / f"config/{sheet}.tsv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream, delimiter="\t")
    assert header == list(SHEETS[sheet].model_fields)
    assert rows
    assert all(len(row) == len(header) for row in rows)


def section_rows(heading: str) -> dict[str, list[str]]:
    """Cells of the table below a heading of config/README.md, by the name in the first one."""
    text = text_of(ROOT / "config/README.md")
    (section,) = re.findall(
        rf"^## {re.escape(heading)}(?: \(optional\))?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:2] == "| "]
    return {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`")}


@pytest.mark.parametrize("sheet", SHEETS)
def test_every_column_is_described_as_the_model_has_it(sheet: str) -> None:
    described = section_rows(f"{sheet}.tsv")
    fields = SHEETS[sheet].model_fields
    assert list(described) == list(fields)
    assert {k: cells[0] for k, cells in described.items()} == {
        k: "yes" if f.is_required() else "no" for k, f in fields.items()
    }
    units = {
        "mbq": "MBq",
        "mm": "mm",
        "min": "min",
        "gy": "Gy",
        "kg": "kg",
        "cm": "cm",
        "h": "h",
        "us": "µs",
        "rel": "1",
    }
    for column, (_, unit, meaning) in described.items():
        suffix = column.rsplit("_", 1)[-1]
        if suffix in units and "_per_" not in column:
            assert unit == units[suffix], column
        assert meaning.endswith("."), column


def config_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of the config with their default as the page writes it."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        sections = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)]
        if sections:
            if field.default is None:
                yield f"{prefix}{name}", "none"
            yield from config_keys(sections[0], f"{prefix}{name}.")
        elif field.is_required():
            yield f"{prefix}{name}", "required"
        elif field.default is None:
            yield f"{prefix}{name}", "none"
        elif isinstance(field.default, tuple):
            yield f"{prefix}{name}", f"`[{', '.join(field.default)}]`"
        else:
            yield f"{prefix}{name}", f"`{yaml.safe_dump(field.default).splitlines()[0]}`"


def test_every_key_of_the_config_is_described_with_its_default() -> None:
    described = {key: cells[0] for key, cells in section_rows("config.yaml").items()}
    assert described == dict(config_keys(Config))


# Machine-readable files ---------------------------------------------------------------------------


def test_the_citation_has_the_version_and_licence_of_the_package() -> None:
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
    assert citation["authors"] == [{"name": "The doseledger contributors"}]
    assert {"message", "title"} <= set(citation)


def test_the_changelog_tells_what_numbers_change_in_this_version() -> None:
    section = text_of(ROOT / "CHANGELOG.md").split(f"\n## {__version__}\n", 1)[1].split("\n## ", 1)[0]
    assert "### Numbers that change\n" in section


def test_the_workflow_catalog_gets_what_it_asks_for() -> None:
    usage = yaml.safe_load(text_of(ROOT / ".snakemake-workflow-catalog.yml"))["usage"]
    assert {"desc", "flags"} == set(usage["mandatory-flags"])
    assert "--configfile" in usage["mandatory-flags"]["flags"]
    assert {"conda", "apptainer", "apptainer+conda"} <= set(usage["software-stack-deployment"])
    for needed in ("README.md", "config/README.md", "workflow/Snakefile"):
        assert (ROOT / needed).is_file()
    assert {"snakemake", "workflow"} <= set(re.findall(r"[a-z]+", text_of(ROOT / "README.md").lower()))


def test_the_image_is_built_from_the_locks_and_the_recipe_says_it_is_untested() -> None:
    recipe = text_of(ROOT / "envs/doseledger.def")
    assert recipe.splitlines()[0].startswith("# ")
    assert "UNTESTED" in "\n".join(line for line in recipe.splitlines() if line.startswith("#"))
    steps = re.findall(r"-m (pip install .*)$", text_of(ROOT / "Makefile"), re.MULTILINE)
    for option in (
        "--require-hashes --requirement envs/lock.txt",
        "--requirement envs/torch.txt",
        "--no-build-isolation",
    ):
        assert option in recipe
        assert any(option in step for step in steps), "the Makefile installs in another way"
