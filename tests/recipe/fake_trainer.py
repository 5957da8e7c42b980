"""A trainer and data without Paddle: softmax regression by momentum SGD with random masks (like dropout)."""

from __future__ import annotations

import numpy as np

CLASSES, WIDTH = 3, 4


class FakeTrainer:
    """Keeps the contract of ``QatTrainer`` that the loop relies on."""

    def __init__(self, seed=0, nan_at=None):
        rng = np.random.default_rng(seed)
        self.weight = rng.normal(size=(WIDTH, CLASSES))
        self.velocity = np.zeros_like(self.weight)
        self.draws = np.zeros(1, np.int64)  # position of the mask generator
        self.rate = None
        self.rates = []
        self.nan_at = nan_at

    def set_learning_rate(self, lr):
        self.rate = lr
        self.rates.append(lr)

    def _probabilities(self, x):
        scores = x @ self.weight
        scores = np.exp(scores - scores.max(1, keepdims=True))
        return scores / scores.sum(1, keepdims=True)

    def train_step(self, feed, fetch):
        assert fetch == ["loss"]
        mask = np.random.default_rng([7, int(self.draws[0])]).random(feed["image"].shape) > 0.1
        self.draws += 1
        x, label = feed["image"] * mask, feed["label"].ravel()
        p = self._probabilities(x)
        loss = -np.log(p[np.arange(len(x)), label] + 1e-12).mean()
        p[np.arange(len(x)), label] -= 1
        self.velocity = 0.9 * self.velocity + x.T @ p / len(x)
        self.weight = self.weight - self.rate * self.velocity
        if self.nan_at is not None and self.draws[0] == self.nan_at:
            loss = np.float32("nan")
        return [np.asarray([loss])]

    def eval_step(self, feed, fetch):
        assert fetch == ["logits"]
        return [self._probabilities(feed["image"])]

    def state_dict(self):
        return {"weight": self.weight.copy(), "velocity": self.velocity.copy(), "draws": self.draws.copy()}

    def load_state_dict(self, state):
        self.weight, self.velocity = state["weight"].copy(), state["velocity"].copy()
        self.draws = state["draws"].copy()


class FakeData:
    """Batches that are a pure function of (epoch, step)."""

    def __init__(self, steps=5, batch=8, seed=1):
        self.steps, self.batch, self.seed = steps, batch, seed
        self.asked = []

    def batches(self, epoch=0, start_step=0):
        self.asked.append((epoch, start_step))
        for step in range(start_step, self.steps):
            rng = np.random.default_rng([self.seed, epoch, step])
            label = rng.integers(0, CLASSES, (self.batch, 1))
            image = rng.normal(size=(self.batch, WIDTH)) * 0.5
            image[np.arange(self.batch), label.ravel()] += 1.5
            yield {"image": image.astype(np.float32), "label": label.astype(np.int64)}
