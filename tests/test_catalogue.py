"""The reader of catalogues: what is refused, where, and what is said."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.catalogue import MAX_BYTES, json_schema, load, parse

REPOSITORY = Path(__file__).parents[1]
MODEL = "task: t, core: {dim: 8, depth: 1, num_heads: 2}"


def problems_of(tmp_path: Path, text: str | bytes) -> list[str]:
    """The problems of a catalogue as text, the file called F."""
    path = tmp_path / "registry.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [str(problem).replace(str(path), "F") for problem in load(path).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("5E2", 500.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0x1", "-0x1"),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 17),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-01-02", "2026-01-02"),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("[1, a, null]", [1, "a", None]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    parsed = parse(text, "F")
    assert (parsed.value, type(parsed.value), parsed.problems) == (value, type(value), [])


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (f"a: {{{MODEL}, taks: x}}", "F:3:56: models.a.taks: unknown key 'taks'; did you mean 'task'?"),
        ("a: {core: {dim: 8, depth: 1, num_heads: 2}}", "F:3:3: models.a.task: 'task' is missing"),
        (
            "a: {task: t, core: {dim: 8, depth: 1.5, num_heads: 2}}",
            "F:3:38: models.a.core.depth: expected a whole number, got 1.5",
        ),
        ("a: {task: t, core: {dim: -8, depth: 1, num_heads: 2}}", "F:3:28: models.a.core.dim: must be > 0, got -8"),
        (
            "a: {task: t, core: {dim: '8', depth: 1, num_heads: 2}}",
            "F:3:28: models.a.core.dim: expected a whole number, got '8'; write 8 without quotes or separators",
        ),
        (
            "a: {task: t, core: {dim: 8, depth: 1, num_heads: 3}}",
            "F:3:22: models.a.core: dim 8 does not divide by num_heads 3; set head_dim or change one",
        ),
        (
            "a: {task: t, core: {dim: 8, depth: 1, num_heads: 2, norm: rmsnrom}}",
            "F:3:61: models.a.core.norm: 'rmsnrom' is not one of layernorm, rmsnorm; did you mean 'rmsnorm'?",
        ),
        (
            "a: {task: t, core: {dim: 8, depth: 1, num_heads: 2, causal: yes}}",
            "F:3:63: models.a.core.causal: expected true or false, got 'yes'; write true",
        ),
        ("a: {task: t, core: {dim: 8, depth: 1, num_heads: 2, scale: .inf}}", "F:3:62: '.inf' is not a finite number"),
        (
            "a: {task: t, core: {dim: 8, depth: 1, num_heads: 2, scale: 1e999}}",
            "F:3:62: '1e999' is not a finite number",
        ),
        (f"a: {{{MODEL}, description: 3}}", "F:3:69: models.a.description: expected text, got 3; quote it: '3'"),
        (
            "a: {task: t, core: {dim: 8, depth: 1, num_heads: 2, windows: 3}}",
            "F:3:64: models.a.core.windows: expected a list, got 3; write [3]",
        ),
        (
            "a: {task: t, core: {dim: 8, depth: 1, num_heads: 2, windows: true}}",
            "F:3:64: models.a.core.windows: expected a list, got true",
        ),
        (
            f"A B: {{{MODEL}}}",
            (
                "F:3:3: models.A B: 'A B' is not a name: "
                "small letters, digits, '.', '_', '-' only (a recipe is MODEL/RECIPE)"
            ),
        ),
        (f"a: {{{MODEL}}}\n  a: {{{MODEL}}}", "F:4:3: key 'a' stands twice; first in line 3"),
        (f"a: &x {{{MODEL}}}", "F:3:6: anchor '&x' is not allowed; write each value where it is used"),
        (f"a: {{<<: 1, {MODEL}}}", "F:3:7: merge key '<<' is not allowed; write the values out"),
        (f"a: {{1: 1, {MODEL}}}", "F:3:7: a key must be text; quote it: '1'"),
        (f"a: !!map {{{MODEL}}}", "F:3:6: tag 'tag:yaml.org,2002:map' is not allowed; write plain YAML"),
        (f"a: {{{MODEL}, embed: {'[' * 20}}}", "F:3:77: not YAML: nested deeper than 16"),
        (f"a: {{{MODEL}, embed: {{x: {'9' * 5000}}}}}", "F:3:67: a number of 5000 digits; at most 40 are read"),
        ("a: [", "F:4:1: not YAML: while parsing a flow node, did not find expected node content"),
        ("a: \x07", "F:3:6: character 0x0007 is not allowed in YAML"),
    ],
)
def test_each_error_has_its_place_and_a_remedy(tmp_path: Path, entry: str, problem: str) -> None:
    found = problems_of(tmp_path, f"schema_version: 1\nmodels:\n  {entry}\n")
    assert found == [problem]


def test_an_alias_is_refused_where_it_stands(tmp_path: Path) -> None:
    found = problems_of(tmp_path, f"schema_version: 1\nmodels:\n  a: &x {{{MODEL}}}\n  b: *x\n")
    assert "F:4:6: alias '*x' is not allowed; write the value out" in found


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("models: {}", "F:1:1: schema_version: 'schema_version' is missing; write 'schema_version: 1' at the top"),
        (
            "schema_version: 2",
            "F:1:17: schema_version: 2 is newer than 1, which this zoo reads; run 'pip install -U attention-zoo'",
        ),
        (
            "schema_version: '1'",
            "F:1:17: schema_version: '1' is not 1, which this zoo reads; write 'schema_version: 1'",
        ),
        ("schema_version: 1\nmodles: {}", "F:2:1: modles: unknown key 'modles'; did you mean 'models'?"),
        ("schema_version: 1\n---\na: 1", "F:2:1: a second document; a catalogue is one, without '---' inside"),
        ("", "F: expected a mapping, got nothing"),
        ("- 1", "F:1:1: expected a mapping, got a list"),
        (b"schema_version: 1\n# caf\xe9", "F:2:6: not UTF-8; save the file in that encoding"),
        (b"#" * (MAX_BYTES + 1), "F: larger than 1,000,000 bytes; split it into catalogues of several plugins"),
    ],
)
def test_what_spoils_a_whole_file_is_said(tmp_path: Path, content: str | bytes, problem: str) -> None:
    assert problems_of(tmp_path, content) == [problem]


def test_a_missing_file_is_a_problem_too(tmp_path: Path) -> None:
    (problem,) = load(tmp_path / "none.yaml").problems
    assert problem.message == "cannot be read: No such file or directory"


def test_every_error_comes_at_once_and_the_sound_entries_stay(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(
        f"schema_version: 1\nmodels:\n  a: {{{MODEL}}}\n  b: {{{MODEL}, x: 1, y: 2}}\n  c: {{task: 3}}\n"
        "recipes:\n  a/b: {data: d}\n  a/c: {dta: d}\n"
    )
    loaded = load(path)
    assert [problem.line for problem in loaded.problems] == [4, 4, 5, 5, 8, 8]
    assert (list(loaded.catalogue.models), list(loaded.catalogue.recipes)) == (["a"], ["a/b"])


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="ab:-[]{}&*!|>'\"%#\n 1.,?<", max_size=60)))
def test_no_text_breaks_the_reader(text: str) -> None:
    document = parse(text, "F")
    assert all(problem.line >= 1 for problem in document.problems)


def test_the_published_schema_is_up_to_date() -> None:
    published = json.loads((REPOSITORY / "docs" / "registry.schema.json").read_text())
    assert published == json_schema(), "run: zoo registry schema > docs/registry.schema.json"


def test_the_schema_takes_our_catalogue_and_a_recipe_by_parts() -> None:
    schema = json_schema()
    recipe = schema["$defs"]["RecipeSpec"]["properties"]
    assert recipe["data"]["anyOf"][0]["type"] == "string"
    assert "required" not in schema["$defs"]["CoreOverrides"]
    assert schema["$defs"]["CoreSpec"]["required"] == ["dim", "depth", "num_heads"]
