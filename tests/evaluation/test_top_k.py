"""Top-k, the report by class and the matrix of answers against scikit-learn's."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)
from sklearn.metrics import (
    confusion_matrix as sklearn_confusion,
)

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_csv
from dcsnas.evaluation.classification import accuracies, within_top
from dcsnas.evaluation.confusion import OF_CLASS, class_rows, confusion_matrix, confusion_rows
from dcsnas.plots.confusion import plot_confusion, read_confusion


def random_case(seed: int, images: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(images), labels] += 1.0
    return logits, labels


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 60), classes=st.integers(6, 30))
def test_accuracies_are_scikit_learns(seed: int, images: int, classes: int):
    logits, labels = random_case(seed, images, classes)
    found = accuracies(logits, labels)
    truth, scores = labels.numpy(), logits.numpy()
    everyone = np.arange(classes)
    assert found["accuracy"] == pytest.approx(100 * accuracy_score(truth, scores.argmax(1)))
    top5 = top_k_accuracy_score(truth, scores, k=5, labels=everyone)
    assert found["top5_accuracy"] == pytest.approx(100 * top5)
    recall = recall_score(truth, scores.argmax(1), labels=np.unique(truth), average="macro")
    assert found["mean_class_accuracy"] == pytest.approx(100 * recall)
    for k in (1, 2, 3):
        expected = top_k_accuracy_score(truth, scores, k=k, labels=everyone)
        assert float(within_top(logits, labels, k).double().mean()) == pytest.approx(expected)


def test_all_of_five_classes_are_within_the_top_5():
    logits, labels = random_case(0, 20, 5)
    assert "top5_accuracy" not in accuracies(logits, labels)
    assert within_top(logits, labels).all()


def test_ties_and_what_is_no_number_count_against():
    labels = torch.arange(8)
    assert not within_top(torch.zeros(8, 8), labels).any()
    assert not within_top(torch.full((8, 8), torch.nan), labels).any()
    logits = torch.zeros(8, 8)
    logits[:, :4] = 1.0
    assert within_top(logits, labels).tolist() == [True] * 4 + [False] * 4


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 60), classes=st.integers(2, 12))
def test_the_report_by_class_is_scikit_learns(seed: int, images: int, classes: int):
    logits, labels = random_case(seed, images, classes)
    answers = logits.argmax(1)
    matrix = confusion_matrix(answers, labels, classes)
    everyone = np.arange(classes)
    expected = sklearn_confusion(labels.numpy(), answers.numpy(), labels=everyone)
    np.testing.assert_array_equal(matrix.numpy(), expected)
    names = [f"class {label}" for label in everyone]
    within = torch.bincount(labels[within_top(logits, labels)], minlength=classes).tolist()
    head, *rows = class_rows(names, matrix, within)
    assert head == list(OF_CLASS)
    rules: dict[str, Any] = {"labels": everyone, "average": None, "zero_division": 0}
    recall: Any = recall_score(labels.numpy(), answers.numpy(), **rules)
    precision: Any = precision_score(labels.numpy(), answers.numpy(), **rules)
    for label, row in enumerate(rows):
        of = dict(zip(OF_CLASS, row, strict=True))
        count = int((labels == label).sum())
        assert (of["class"], of["images"]) == (names[label], count)
        assert of["answers"] == int((answers == label).sum())
        if count:
            assert float(str(of["accuracy_percent"])) == pytest.approx(
                100 * recall[label], abs=0.006
            )
        else:
            assert of["accuracy_percent"] == of["top5_percent"] == ""
        if of["answers"]:
            assert float(str(of["precision_percent"])) == pytest.approx(
                100 * precision[label], abs=0.006
            )
        wrong = [c if other != label else 0 for other, c in enumerate(expected[label])]
        assert of["taken_for_images"] == max(wrong)
        assert of["most_often_taken_for"] == (names[wrong.index(max(wrong))] if max(wrong) else "")


def test_mean_class_accuracy_is_balanced_accuracy():
    logits, labels = random_case(1, 200, 10)
    expected = balanced_accuracy_score(labels.numpy(), logits.argmax(1).numpy())
    assert accuracies(logits, labels)["mean_class_accuracy"] == pytest.approx(100 * expected)


def test_answers_beyond_the_classes_are_left_out():
    found = confusion_matrix(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), 2)
    assert found.tolist() == [[1, 0], [0, 1]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    matrix = torch.tensor([[5, 1, 0], [0, 6, 0], [2, 0, 1]])
    write_csv(tmp_path / "confusion.csv", confusion_rows(["a", 'b, "c"', "d"], matrix))
    return tmp_path


def test_the_table_of_answers_is_read_as_written(run: Path):
    names, numbers = read_confusion(run / "confusion.csv")
    assert names == ["a", 'b, "c"', "d"]
    assert numbers.tolist() == [[5, 1, 0], [0, 6, 0], [2, 0, 1]]
    with (run / "confusion.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["class", *names]


def test_the_picture_shows_the_share_of_each_class(run: Path):
    figure = plot_confusion(run)
    axes = figure.axes[0]
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares, [
        [500 / 6, 100 / 6, 0], [0, 100, 0], [200 / 3, 0, 100 / 3]
    ])  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", 'b, "c"', "d"]
    texts = [text.get_text() for text in figure.texts]
    assert "answers by class: 80.0 % of 15 images right" in texts
    assert 'most often mistaken: d for a 67 %, a for b, "c" 17 %' in texts


@pytest.mark.parametrize(
    "text", ["", "class,a,b\na,1,2\n", "class,a\na,x\n", "class,a,b\na,1\nb,1,2\n"]
)
def test_a_broken_table_is_named(tmp_path: Path, text: str):
    (tmp_path / "confusion.csv").write_text(text)
    with pytest.raises(UserError, match=r"confusion\.csv: not a table of answers by class"):
        plot_confusion(tmp_path)


def test_csv_quotes_what_needs_it(tmp_path: Path):
    write_csv(tmp_path / "x.csv", [["a,b", 1], ['"', ""]])
    rows = list(csv.reader(io.StringIO((tmp_path / "x.csv").read_text())))
    assert rows == [["a,b", "1"], ['"', ""]]
