"""A whole language model in plain Python, to be read in one sitting: numbers, their gradients, a GPT, its training.

Nothing is imported but the standard library's random numbers and mathematics, and nothing here is fast: every number
is an object. ``docs/microgpt.md`` walks through it. The model has one block as GPT-2's (Radford et al. 2019), with two
simplifications: RMSNorm without a scale (Zhang and Sennrich 2019, arXiv:1910.07467), and no biases.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence


class Number:
    """A number that remembers what it was made of, so that a loss can be traced back to every parameter in it."""

    __slots__ = ("gradient", "parents", "value")

    def __init__(self, value: float, parents: tuple[tuple[Number, float], ...] = ()) -> None:
        self.value = value
        self.parents = parents
        """Each with the slope: how much this number grows when that one grows by a little."""
        self.gradient = 0.0
        """How much the number that ``backward`` was asked of grows when this one grows by a little."""

    def __add__(self, other: Number | float) -> Number:
        if isinstance(other, Number):
            return Number(self.value + other.value, ((self, 1.0), (other, 1.0)))
        return Number(self.value + other, ((self, 1.0),))

    def __mul__(self, other: Number | float) -> Number:
        if isinstance(other, Number):
            return Number(self.value * other.value, ((self, other.value), (other, self.value)))
        return Number(self.value * other, ((self, other),))

    def power(self, exponent: float) -> Number:
        """The number to a fixed power."""
        return Number(self.value**exponent, ((self, exponent * self.value ** (exponent - 1)),))

    def exp(self) -> Number:
        """e to the number."""
        found = math.exp(self.value)
        return Number(found, ((self, found),))

    def log(self) -> Number:
        """The natural logarithm."""
        return Number(math.log(self.value), ((self, 1 / self.value),))

    def relu(self) -> Number:
        """The number where it is positive, else 0."""
        return Number(max(0.0, self.value), ((self, float(self.value > 0)),))

    def backward(self) -> None:
        """Adds to ``gradient`` of every number that this one was made of: the chain rule, from here back."""
        order: list[Number] = []
        seen: set[int] = set()
        waiting: list[tuple[Number, bool]] = [(self, False)]
        while waiting:  # a number comes after all that it was made of; no recursion, which Python allows 1000 deep
            number, complete = waiting.pop()
            if complete:
                order.append(number)
            elif id(number) not in seen:
                seen.add(id(number))
                waiting.append((number, True))
                waiting += [(parent, False) for parent, _ in number.parents]
        self.gradient = 1.0
        for number in reversed(order):
            for parent, slope in number.parents:
                parent.gradient += slope * number.gradient


Vector = list[Number]
Matrix = list[Vector]
"""Rows, each of which weighs the numbers of a vector."""


def dot(left: Sequence[Number], right: Sequence[Number]) -> Number:
    """The sum of the products of two vectors, as one number with many parents: far fewer objects than sums of sums."""
    value = math.fsum(a.value * b.value for a, b in zip(left, right, strict=True))
    slopes = [(a, b.value) for a, b in zip(left, right, strict=True)]
    return Number(value, (*slopes, *((b, a.value) for a, b in zip(left, right, strict=True))))


def total(numbers: Iterable[Number]) -> Number:
    """The sum of some numbers."""
    found = tuple((number, 1.0) for number in numbers)
    return Number(math.fsum(number.value for number, _ in found), found)


def linear(matrix: Matrix, vector: Vector) -> Vector:
    """A matrix times a vector: one number per row."""
    return [dot(row, vector) for row in matrix]


def norm(vector: Vector) -> Vector:
    """The vector, scaled so that the mean of its squares is 1."""
    scale = (dot(vector, vector) * (1 / len(vector)) + 1e-5).power(-0.5)
    return [number * scale for number in vector]


def softmax(scores: Vector) -> Vector:
    """Probabilities: positive, sum 1, and the greater the score the greater."""
    top = max(score.value for score in scores)  # taken off, so that no exponential overflows
    weights = [(score + -top).exp() for score in scores]
    share = total(weights).power(-1.0)
    return [weight * share for weight in weights]


class MicroGPT:
    """A GPT of one block: ``width`` numbers a token, ``heads`` heads, ``context`` tokens that it can look back on."""

    def __init__(self, vocabulary: int, width: int = 16, heads: int = 4, context: int = 8, seed: int = 0) -> None:
        draw = random.Random(seed)

        def matrix(rows: int, columns: int, spread: float = 0.08) -> Matrix:
            return [[Number(draw.gauss(0.0, spread)) for _ in range(columns)] for _ in range(rows)]

        self.width, self.heads, self.context = width, heads, context
        self.weights = {
            "token": matrix(vocabulary, width),  # what a token is
            "position": matrix(context, width),  # where it stands
            "query": matrix(width, width),  # what a token looks for
            "key": matrix(width, width),  # what it can be found by
            "value": matrix(width, width),  # what it gives to whoever found it
            "mix": matrix(width, width),
            "widen": matrix(4 * width, width),
            "narrow": matrix(width, 4 * width),
            "head": matrix(vocabulary, width),  # a score for each token that may come next
        }

    @property
    def parameters(self) -> list[Number]:
        """All numbers that training changes."""
        return [number for matrix in self.weights.values() for row in matrix for number in row]

    def scores(self, tokens: Sequence[int]) -> list[Vector]:
        """For each position, a score for each token that may follow it; a position sees itself and what is before."""
        weights, size = self.weights, self.width // self.heads
        found: list[Vector] = []
        keys: list[Vector] = []
        values: list[Vector] = []
        for place, token in enumerate(tokens):
            stream = [a + b for a, b in zip(weights["token"][token], weights["position"][place], strict=True)]
            normed = norm(stream)
            query = linear(weights["query"], normed)
            keys.append(linear(weights["key"], normed))
            values.append(linear(weights["value"], normed))
            looked: Vector = []
            for start in range(0, self.width, size):  # each head looks with its own part of the numbers
                part = slice(start, start + size)
                attention = softmax([dot(query[part], key[part]) * size**-0.5 for key in keys])
                looked += [dot(attention, [value[at] for value in values]) for at in range(start, start + size)]
            stream = [a + b for a, b in zip(stream, linear(weights["mix"], looked), strict=True)]
            hidden = [number.relu() for number in linear(weights["widen"], norm(stream))]
            stream = [a + b for a, b in zip(stream, linear(weights["narrow"], hidden), strict=True)]
            found.append(linear(weights["head"], norm(stream)))
        return found

    def loss(self, tokens: Sequence[int]) -> Number:
        """How surprised the model is by each next token, on average, in nats: ln V where it knows nothing."""
        guesses = [softmax(scores) for scores in self.scores(tokens[:-1])]
        surprises = [guess[wanted].log() * -1.0 for guess, wanted in zip(guesses, tokens[1:], strict=True)]
        return total(surprises) * (1 / len(surprises))


def train(
    model: MicroGPT, tokens: Sequence[int], steps: int, rate: float = 0.02, seed: int = 0,
    tell: Callable[[int, float], None] = lambda _step, _loss: None,
) -> list[float]:  # fmt: skip
    """Lowers the loss on pieces of a text with Adam (Kingma and Ba 2015, arXiv:1412.6980); returns each step's loss.

    The rate falls to 0 in a straight line.
    """
    draw, parameters = random.Random(seed), model.parameters
    means, squares = [0.0] * len(parameters), [0.0] * len(parameters)
    losses = []
    for step in range(1, steps + 1):
        start = draw.randrange(len(tokens) - model.context)
        loss = model.loss(tokens[start : start + model.context + 1])
        loss.backward()
        for at, number in enumerate(parameters):
            means[at] = 0.9 * means[at] + 0.1 * number.gradient
            squares[at] = 0.99 * squares[at] + 0.01 * number.gradient**2
            mean, square = means[at] / (1 - 0.9**step), squares[at] / (1 - 0.99**step)
            number.value -= rate * (1 - (step - 1) / steps) * mean / (math.sqrt(square) + 1e-8)
            number.gradient = 0.0
        losses.append(loss.value)
        tell(step, loss.value)
    return losses


def write(model: MicroGPT, tokens: Sequence[int], count: int, seed: int = 0) -> list[int]:
    """Goes on with ``tokens``: ``count`` times draws the next token by its probability."""
    draw, written = random.Random(seed), list(tokens)
    for _ in range(count):
        chances = [guess.value for guess in softmax(model.scores(written[-model.context :])[-1])]
        written += draw.choices(range(len(chances)), chances)
    return written
