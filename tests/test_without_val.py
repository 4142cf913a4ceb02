"""What each command does with features that have no val split: said in one line."""

import pytest

from ltkit import datasets


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the features of a network, train and test, and no val."""
    from ltkit.cli import main

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            "train ce --data digits_lt:val=none --arch digits_net --epochs 1 --device cpu -o m.pt",
            "extract m.pt --data digits_lt:val=none --device cpu -o feats.h5",
            "posthoc tau-norm feats.h5 --sweep -o sweep.h5",
            "posthoc group-bias feats.h5 --sweep -o two.h5",
        ):
            patch.setattr("sys.argv", ["ltkit", *words.split(), "--quiet"])
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code
    return folder


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("posthoc tau-norm feats.h5 -o o.h5", 0,
         "no val split to choose tau on: tau 1 is taken, the default of tau-norm"),
        ("posthoc ridge feats.h5 -o o.h5", 0, "no val split to choose penalty on"),
        ("posthoc group-bias feats.h5 -o o.h5", 0, "no val split to choose few, medium on"),
        ("posthoc logit-adjust feats.h5 --set tau=1 -o o.h5", 0, "wrote o.h5"),
        ("posthoc logit-adjust feats.h5 --sweep -o o.h5", 0, "wrote o.h5"),
        ("posthoc ncm feats.h5 -o o.h5", 0, "wrote o.h5"),
        ("posthoc temperature feats.h5 -o o.h5", 2, "no val split, whose samples this method"),
        ("posthoc bias feats.h5 -o o.h5", 2, "no val split, whose samples this method"),
        ("posthoc bias feats.h5 --sweep -o o.h5", 2, "no val split, whose samples this method"),
        ("alphanet fit feats.h5 --k 2 --epochs 1 --device cpu -o o.h5", 0,
         "no validation split, so the last epoch is taken"),
        ("alphanet sweep feats.h5 --rho 1 --device cpu", 2, "no validation split to score a sweep"),
        ("compare feats.h5 sweep.h5", 2, "no validation split to choose a setting"),
        ("compare feats.h5 two.h5 --every-setting --replicates 100", 0,
         "chosen on test, on which they are measured"),
        ("report feats.h5 --classifier two.h5 --replicates 100 -o o.html", 0,
         "chosen on test, on which they are measured"),
        ("evaluate feats.h5 --split val", 2, "no split val; there are: train, test"),
        ("train ce feats.h5 --epochs 1 --device cpu -o o.h5", 0, "wrote o.h5"),
        ("train ce --data digits_lt:val=none --arch digits_net --keep-best --device cpu", 2,
         "--keep-best: found no val split"),
    ],
)  # fmt: skip
def test_what_commands_say_without_val(made, tmp_path, monkeypatch, ltkit, command, code, said):
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    found, out, err = ltkit(*command.split())
    assert found == code, out + err
    (line,) = [line for line in err.splitlines() if said[:40] in line]
    assert said in line
    assert len(line) <= 300


def test_with_val_nothing_is_chosen_on_test(made, tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    words = f"extract {made / 'm.pt'} --data digits_lt --device cpu -o feats.h5 -q".split()
    assert ltkit(*words)[0] == 0
    assert ltkit("posthoc", "group-bias", "feats.h5", "--sweep", "-o", "s.h5", "-q")[0] == 0
    code, out, err = ltkit("compare", "feats.h5", "s.h5", "--replicates", "100")
    assert code == 0
    assert "note" not in err
    assert "* best on val by balanced accuracy" in out
    assert "val" in datasets.load("digits_lt").splits
