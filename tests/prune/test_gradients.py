"""Gradients for the Taylor criteria against finite differences of the loss."""

import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle
import pytest
from prune.hand_groups import member
from small_programs import mobile_net, random

from slimkit.errors import ConfigError, ModelError
from slimkit.prune.criteria import scores
from slimkit.prune.gradients import taylor_gradients
from slimkit.prune.groups import OUTPUT, Group, Groups

FEEDS = [
    {"x": random(seed, 16, 3, 8, 8), "label": (np.arange(16) * seed % 5).astype("int64").reshape(-1, 1)}
    for seed in (1, 2, 3)
]


def _model():
    return mobile_net().model(["x", "label"], ["loss"])


def _loss(model, feed):
    return float(model.run(feed, ["loss"])[0].reshape(-1)[0])


@pytest.mark.parametrize("name", ["stem.w", "dw.w", "project.w"])
def test_against_finite_differences(name):
    """Scaling filter j by 1 + s changes the loss by s times the sum of g w over it."""
    model = _model()
    weight = model.params[name].copy()
    found = [taylor_gradients(model, "loss", [feed], "mean")[name] for feed in FEEDS]
    step = 0.02
    for j in range(3):
        for feed, gradient in zip(FEEDS, found):
            ends = []
            for sign in (1, -1):
                moved = weight.copy()
                moved[j] *= 1 + sign * step
                model.params[name] = moved
                ends.append(_loss(model, feed))
            model.params[name] = weight
            slope = (ends[0] - ends[1]) / (2 * step)
            assert slope == pytest.approx((gradient[j] * weight[j]).sum(), rel=0.02, abs=3e-5)


def test_scores_are_the_mean_over_batches():
    """The paper averages (g w)^2 over batches; the root mean square gradient gives just that."""
    model = _model()
    weight = model.params["project.w"].astype(np.float64)
    each = [taylor_gradients(model, "loss", [feed], "mean")["project.w"] for feed in FEEDS]
    groups = Groups([Group("project.w", 16, [member("project.w", 0, np.arange(16), OUTPUT)])])
    for criterion, statistic, power in (("taylor", "rms", 2), ("taylor_abs", "abs", 1)):
        gradients = taylor_gradients(model, "loss", FEEDS, statistic)
        want = np.mean([(np.abs(g * weight) ** power).sum((1, 2, 3)) for g in each], axis=0)
        np.testing.assert_allclose(scores(groups, model.params, criterion, gradients)["project.w"], want, rtol=1e-6)


def test_the_model_stays_as_it_was_and_optimizers_do_not_run():
    net = mobile_net()
    plain = taylor_gradients(net.model(["x", "label"], ["loss"]), "loss", FEEDS)
    net.minimize(lambda: paddle.optimizer.Momentum(0.1))
    model = net.model(["x", "label"], ["loss"])
    before, ops = {name: array.copy() for name, array in model.params.items()}, model.op_counts()
    found = taylor_gradients(model, "loss", FEEDS)
    assert model.op_counts() == ops
    assert all(np.array_equal(array, before[name]) for name, array in model.params.items())
    assert set(found) == set(plain) and all(np.array_equal(found[name], plain[name]) for name in plain)


def test_what_cannot_be_differentiated():
    with pytest.raises(ModelError, match=r"no variable 'los' to differentiate; did you mean 'loss'\?"):
        taylor_gradients(_model(), "los", FEEDS)
    with pytest.raises(ConfigError, match="at least one batch"):
        taylor_gradients(_model(), "loss", [])
    with pytest.raises(ConfigError, match=r"statistic = 'rsm' is none of rms, abs, mean; did you mean 'rms'\?"):
        taylor_gradients(_model(), "loss", FEEDS, "rsm")
    with pytest.raises(ModelError, match=r"'.*' is not finite in batch 1"):
        taylor_gradients(_model(), "loss", [{**FEEDS[0], "x": FEEDS[0]["x"] * np.nan}])
