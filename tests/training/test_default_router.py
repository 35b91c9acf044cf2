"""The router that ships with fastroute: its size, its card, and that it is not nonsense."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fastroute.artifacts import load_artifact
from fastroute.embedders.static import DEFAULT_FOLDER as EMBEDDER
from fastroute.routers import MatrixFactorizationRouter
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER as MF

CARD = MF.parent / "MODEL_CARD.md"
EVERYDAY = Path(__file__).parents[2] / "bench" / "everyday_prompts.jsonl"
TRANSLATED = {
    "easy": [
        "What is the name of your dog?",
        "¿Cómo se llama tu perro?",
        "Wie heißt dein Hund?",
        "Comment s'appelle ton chien ?",
        "Как зовут твою собаку?",
        "你的狗叫什么名字\uff1f",
        "あなたの犬の名前は何ですか\uff1f",
    ],
    "hard": [
        "Derive the convergence rate of gradient descent for convex functions.",
        "Deduce la tasa de convergencia del descenso de gradiente para funciones convexas.",
        "Leite die Konvergenzrate des Gradientenabstiegs für konvexe Funktionen her.",
        "Établis la vitesse de convergence de la descente de gradient pour fonctions convexes.",
        "Выведи скорость сходимости градиентного спуска для выпуклых функций.",
        "推导凸函数上梯度下降法的收敛速度。",
        "凸関数に対する勾配降下法の収束率を導出してください。",
    ],
}


@pytest.fixture(scope="module")
def router() -> MatrixFactorizationRouter:
    return MatrixFactorizationRouter.load_default()


def test_both_artifacts_verify() -> None:
    head = load_artifact(MF, kind="mf")
    table = load_artifact(EMBEDDER, kind="static_embedder")
    assert head.config["embedder"] == f"{table.config['name']}:{table.checksum[:12]}"
    assert table.arrays["table"].dtype == np.int8
    assert table.arrays["table"].shape == (127_994, 64)
    assert "pieces" in table.arrays
    assert head.config["dimensions"] == 64 + len(table.config["signals"])


def test_it_is_small() -> None:
    # A wheel compresses its files in this way.
    size = sum(len(zlib.compress(f.read_bytes())) for f in MF.parent.rglob("*") if f.is_file())
    assert size <= 9.5e6


def test_the_card_is_of_these_artifacts() -> None:
    text = CARD.read_text("utf-8")
    for folder in (MF, EMBEDDER):
        assert load_artifact(folder).checksum in text, f"the card is not of this {folder.name}"


def test_it_knows_its_calibration_and_its_training(router: MatrixFactorizationRouter) -> None:
    assert router.provenance.calibration is not None
    assert router.provenance.calibration.shape == (1001,)
    assert (np.diff(router.provenance.calibration) >= 0).all()
    assert 0.0 < router.provenance.calibration[0] < router.provenance.calibration[-1] < 1.0
    # The difference between prompts is one that a user sees.
    low, high = np.quantile(router.provenance.calibration, [0.1, 0.9])
    assert high - low > 0.3
    point = router.provenance.operating_point
    assert point is not None
    assert point.strong_share == 0.5
    above = (router.provenance.calibration >= point.threshold).mean()
    assert above == pytest.approx(0.5, abs=0.01)
    assert router.provenance.trained_on is not None
    assert len(router.provenance.trained_on) > 2_500
    assert (np.diff(router.provenance.trained_on) > 0).all()


def test_hard_prompts_score_above_easy_ones_in_many_languages(
    router: MatrixFactorizationRouter,
) -> None:
    rows = [json.loads(line) for line in EVERYDAY.read_text("utf-8").splitlines()]
    rates = router.win_rates([row["prompt"] for row in rows])
    ratings = np.array([row["rating"] for row in rows])
    assert stats.spearmanr(rates, ratings).statistic > 0.8
    assert np.mean(rates[ratings >= 7][:, None] > rates[ratings <= 3]) > 0.95


def test_the_language_hardly_moves_the_score(router: MatrixFactorizationRouter) -> None:
    """The same easy and hard prompts in seven languages."""
    calibration = router.provenance.calibration
    assert calibration is not None
    shares = {}
    for kind, prompts in TRANSLATED.items():
        shares[kind] = np.searchsorted(calibration, router.win_rates(prompts)) / len(calibration)
    assert shares["easy"].max() < shares["hard"].min()
    assert np.ptp(shares["easy"]) < 0.4
    assert np.ptp(shares["hard"]) < 0.4


def test_text_goes_to_a_decision_without_a_tokenizer() -> None:
    """The core reads text itself: the libraries of other embedders are not loaded."""
    code = (
        "import sys; sys.modules.update(tokenizers=None, onnxruntime=None, faiss=None)\n"
        "from fastroute import Controller\n"
        "c = Controller(routers=['mf'], strong_model='s', weak_model='w')\n"
        "print(c.route('Hello!', 'mf', 0.5), c.batch_calculate_win_rate(['a', 'b'], 'mf').shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["w", "(2,)\n"]
