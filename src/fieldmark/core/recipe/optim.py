"""The section `optim`: the optimiser."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from fieldmark.core.recipe.section import Conflict, Fraction, NonNegative, Positive, Section, setting


class LrFactor(Section):
    parameters: str = setting("head", "which parameters: a word or name as in stages.trainable")
    factor: Positive = setting(10.0, "factor on their learning rate")


class Optimizer(Section):
    """What all optimisers have."""

    name: str
    lr: Positive = setting(1e-3, "peak learning rate")
    lr_factors: tuple[LrFactor, ...] = setting((), "learning rates of parts of the network as multiples of lr")
    weight_decay: NonNegative = setting(0.0, "weight decay")
    decay_norm_and_bias: bool = setting(False, "also apply weight decay to normalisation weights and biases")

    @model_validator(mode="after")
    def _decay(self) -> Optimizer:
        if self.decay_norm_and_bias and self.weight_decay == 0:
            what, remedy = "optim.decay_norm_and_bias has no effect without weight decay", "set optim.weight_decay above 0"
            raise Conflict(what, "optim.decay_norm_and_bias", "optim.weight_decay", remedy=remedy)
        return self


class SGD(Optimizer):
    name: Literal["sgd"] = setting("sgd", "stochastic gradient descent with momentum")
    lr: Positive = setting(0.1, "peak learning rate")
    momentum: Fraction = setting(0.9, "momentum")
    nesterov: bool = setting(True, "Nesterov's momentum")
    weight_decay: NonNegative = setting(1e-4, "weight decay")

    @model_validator(mode="after")
    def _momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise Conflict("optim.nesterov needs optim.momentum above 0", "optim.nesterov", "optim.momentum")
        return self


class Adam(Optimizer):
    name: Literal["adam"] = setting("adam", "Adam, with weight decay as an L2 penalty (Kingma and Ba, 2015)")
    betas: tuple[Fraction, Fraction] = setting((0.9, 0.999), "decay of the running mean of gradients and of their squares")
    eps: Positive = setting(1e-8, "added to the denominator")


class AdamW(Optimizer):
    name: Literal["adamw"] = setting("adamw", "Adam with decoupled weight decay (Loshchilov and Hutter, 2019)")
    betas: tuple[Fraction, Fraction] = setting((0.9, 0.999), "decay of the running mean of gradients and of their squares")
    eps: Positive = setting(1e-8, "added to the denominator")
    weight_decay: NonNegative = setting(0.05, "weight decay")


class RMSprop(Optimizer):
    name: Literal["rmsprop"] = setting("rmsprop", "RMSprop")
    alpha: Fraction = setting(0.99, "decay of the running mean of squared gradients")
    eps: Positive = setting(1e-8, "added to the denominator")
    momentum: Fraction = setting(0.0, "momentum")


class TimmOptimizer(Optimizer):
    name: Literal["timm"] = setting("timm", "any optimiser of timm by its name, with its own defaults")
    algorithm: str = setting("lamb", "its name in timm, such as lamb, lion or nadamw")


Optim = SGD | Adam | AdamW | RMSprop | TimmOptimizer
