from pathlib import Path

import pytest

from workers.constitution import ConstitutionError, Principle, fingerprint, read_constitution

ROOT = Path(__file__).parents[2]
KIND = '[[principle]]\nid = "kind"\nprinciple = " Be kind. "\n'


def test_weights_are_shares_and_one_unless_given(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(KIND + '[[principle]]\nid = "true"\nprinciple = "Be true."\nweight = 3\n')
    assert read_constitution(path) == [
        Principle("kind", "Be kind.", 0.25),
        Principle("true", "Be true.", 0.75),
    ]
    before = fingerprint(path)
    path.write_text(KIND)
    assert fingerprint(path) != before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"no \[\[principle\]\]"),
        ("principle = []", r"no \[\[principle\]\]"),
        ("[[principle]\n", "line 1"),
        ('[principle]\nid = "x"\n', r"no \[\[principle\]\]"),
        (KIND + "[rules]\n", "unknown rules"),
        ('[[principle]]\nid = "kind"\n', r"principle 1 \(kind\): principle: Field required"),
        (
            KIND + '[[principle]]\nid = "x"\nprinciple = "  "\n',
            r"principle 2 \(x\): principle: .* 1 character",
        ),
        (KIND + "weight = 0\n", r"principle 1 \(kind\): weight: .* greater than 0"),
        (KIND + "weight = nan\n", r"principle 1 \(kind\): weight"),
        (KIND + "wieght = 2\n", r"principle 1 \(kind\): wieght: Extra"),
        (KIND.replace('"kind"', '"be kind"'), r"principle 1 \(be kind\): id: "),
        ('[[principle]]\nprinciple = "Be."\n', "principle 1: id: Field required"),
        (KIND + KIND, r"principle 2 \(kind\): principle 1 has this id"),
        ("principle = [3]", "principle 1: Input .*dictionary"),
    ],
)
def test_what_is_wrong_is_said_of_the_file_and_the_entry(tmp_path, text, why):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(ConstitutionError, match=rf"rules\.toml: .*{why}"):
        read_constitution(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConstitutionError, match=r"nowhere\.toml"):
        read_constitution(tmp_path / "nowhere.toml")


def test_the_example_is_right():
    assert len(read_constitution(ROOT / "deploy" / "constitution.example.toml")) == 4
