"""The segmentation model that a config asks for: is it usable, and where its weights come from."""

from __future__ import annotations

from pathlib import Path

from doseledger.cohort import Plan
from doseledger.errors import SegmentationError
from doseledger.segmentation import Options, check_model
from doseledger.segmentation.backends import runs_of, weights_of
from doseledger.segmentation.labels import CONTOURS
from doseledger.segmentation.weights import fetch_weights, register_weights
from doseledger.steps.specs import region_specs


def check_configured(plan: Plan) -> None:
    """Whether the model of the config can be used; nothing to check for contours.

    Raises
    ------
    SegmentationError, WeightsError
        As `segmentation.check_model`.
    """
    if plan.settings["segment"]["source"] != CONTOURS and plan.imaged:
        check_model(_options(plan), region_specs(list(plan.imaged[0].regions)))


def fetch(plan: Plan) -> Path:
    """Download the weights that the config needs, where they are missing.

    Raises
    ------
    SegmentationError, WeightsError
        The config asks for another back end, or the download failed.
    """
    options = _options(plan)
    folder = weights_of(options)
    for run in runs_of(options, region_specs(list(plan.imaged[0].regions))):
        fetch_weights(folder, *run)
    return folder


def register(plan: Plan) -> Path:
    """Pin the hashes of weights that were copied to their folder.

    Raises
    ------
    WeightsError
        No weights there, or registered ones that have changed.
    """
    return register_weights(weights_of(_options(plan)))


def _options(plan: Plan) -> Options:
    settings = plan.settings["segment"]
    if settings["source"] == CONTOURS:
        raise SegmentationError("contours need no weights", path="config.yaml", tag="segment.source", value=CONTOURS)
    return Options(settings, plan.base, plan.data_origin, threads=1, gpu=False, scratch=plan.results)
