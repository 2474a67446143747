"""The contract of a platform's metrics: their names, types, labels and the labels' values, and which counters must rise
with what really happened.

The contract is a TOML file of the platform. [contract] in gameday.toml names it, and the check metrics_true judges each
run by it.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from gameday.errors import ConfigError
from gameday.stack.config import Strict

__all__ = ["Contract", "Metric", "Rise", "Variants", "read"]

Values = Mapping[str, tuple[str, ...]]
"""Label -> its closed set of values."""


class Metric(Strict):
    """One metric.

    optional: labels that a series may lack. of: the programs that export it; if left out, all. absent: the variants
    that don't export it. only: variant -> the values of labels that differ in that variant.
    """

    type: Literal["counter", "gauge", "histogram", "summary"]
    help: str
    labels: Values = Field(default_factory=dict)
    optional: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    only: Mapping[str, Values] = Field(default_factory=dict)

    def values(self, variant: str | None) -> Values:
        """Return each label's values in this variant."""
        return {**self.labels, **self.only.get(variant or "", {})}

    def series(self, variant: str | None) -> Iterator[dict[str, str]]:
        """Yield the labels of each series that must exist from the start, without the optional labels."""
        known = {label: told for label, told in self.values(variant).items() if label not in self.optional}
        for combination in itertools.product(*known.values()):
            yield dict(zip(known, combination, strict=True))


class Variants(Strict):
    """A label that every series has. A program has one value of it, and its metrics may differ by that value."""

    label: str
    values: tuple[str, ...] = Field(min_length=1)


class Rise(Strict):
    """A counter that must rise as a series of the samples does.

    where: the labels of the counters that are added up. unless_struck: if the fault strikes one of these components,
    the series may fall, and the counter is not judged.
    """

    metric: str
    where: Mapping[str, str] = Field(default_factory=dict)
    account: str = Field(alias="as")
    unless_struck: tuple[str, ...] = ()


class Contract(Strict):
    """The whole file. prefixes: metrics with other names are not judged."""

    prefixes: tuple[str, ...] = Field(min_length=1)
    variants: Variants | None = None
    metrics: Mapping[str, Metric] = Field(min_length=1)
    rises: tuple[Rise, ...] = ()

    @model_validator(mode="after")
    def _refers(self) -> Self:
        variants = self.variants.values if self.variants else ()
        for name, metric in self.metrics.items():
            if not name.startswith(self.prefixes):
                raise ValueError(f"metrics.{name} has none of the prefixes {', '.join(self.prefixes)}")
            if wrong := [one for one in (*metric.absent, *metric.only) if one not in variants]:
                raise ValueError(f"metrics.{name} names {', '.join(wrong)}, which variants.values has not")
            if wrong := [one for told in metric.only.values() for one in told if one not in metric.labels]:
                raise ValueError(f"metrics.{name}.only names {', '.join(wrong)}, which its labels have not")
        for rise in self.rises:
            told = self.metrics.get(rise.metric)
            if told is None or told.type != "counter":
                raise ValueError(f"rises names {rise.metric}, which is no counter of metrics")
            if wrong := [one for one in rise.where if one not in told.labels]:
                raise ValueError(f"rises names {', '.join(wrong)}, which metrics.{rise.metric}.labels has not")
        return self


def read(path: Path) -> Contract:
    """Read the file. Raises ConfigError, which names the key and what is wrong with it."""
    try:
        return Contract.model_validate(tomllib.loads(path.read_text()))
    except OSError as e:
        raise ConfigError(f"contract.file: {path} can't be read: {e.strerror}. Remedy: check its place") from e
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"contract.file: {path} is not TOML: {e}. Remedy: mend that line") from e
    except ValidationError as e:
        told = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'it'}: {p['msg'].lower()}" for p in e.errors())
        raise ConfigError(f"contract.file: {path}: {told}. Remedy: see docs/metrics-contract.md") from e
